// The likeliest next tokens, with their probabilities as bars.

import { percent, visible } from "../numbers";
import type { Likely } from "../server";

const N_SHOWN = 6;

export function Likeliest({ title, tokens }: { title: string; tokens: Likely[] }) {
  return (
    <div>
      <h5>{title}</h5>
      <ul class="bars" aria-label={title}>
        {tokens.slice(0, N_SHOWN).map(each => (
          <li>
            <span class="token">{visible(each.token, 20)}</span>
            <i>
              <b style={{ width: `${100 * each.probability}%` }} />
            </i>
            <span>{percent(each.probability, 2)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

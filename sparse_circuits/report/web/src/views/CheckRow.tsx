// One check of a card on the scale that all share: where the loss has to be, where it is, how sure that is.

import { scaleLinear } from "d3-scale";
import { aboutCheck, fails, nameOfCheck } from "../checks";
import { decimal, known, percent } from "../numbers";
import { hideTip, showTip } from "../parts/tip";
import type { Check } from "../payload/types";

export const CHANCE = Math.LN2;
const WIDTH = 300;
const HEIGHT = 26;
const MOST = 1;

const x = scaleLinear([0, MOST], [8, WIDTH - 12]).clamp(true);

export function CheckRow({ check }: { check: Check }) {
  const isBad = fails(check),
    bound = check.at_most ?? check.at_least;
  const limit = known(check.at_most) ? `at most ${check.at_most}` : known(check.at_least) ? `at least ${check.at_least}` : "";
  return (
    <div class="check">
      <div>
        <b>{nameOfCheck(check)}</b>
        <span class="muted">{aboutCheck(check)}</span>
      </div>
      <svg
        class="picture"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${nameOfCheck(check)}: loss ${decimal(check.loss)}, ${decimal(check.low)} to ${decimal(check.high)}; ${limit}`}
        onPointerMove={event =>
          showTip(
            event,
            <>
              <b>{decimal(check.loss)}</b> ({decimal(check.low)} to {decimal(check.high)})
              <div>{percent(check.accuracy, 1)} of prompts right</div>
              <div class="muted">
                {check.about}
                {check.n_draws > 1 && `, ${check.n_draws} draws`}
              </div>
            </>,
          )
        }
        onPointerLeave={hideTip}
      >
        {known(check.at_most) && <rect class="zone" x="0" width={x(check.at_most)} y="3" height={HEIGHT - 6} />}
        {known(check.at_least) && (
          <rect class="zone" x={x(check.at_least)} width={WIDTH - x(check.at_least)} y="3" height={HEIGHT - 6} />
        )}
        <line class="chance" x1={x(CHANCE)} x2={x(CHANCE)} y1="0" y2={HEIGHT} />
        {known(bound) && <line class="bound" x1={x(bound)} x2={x(bound)} y1="2" y2={HEIGHT - 2} />}
        {known(check.low) && known(check.high) && (
          <rect
            class={`interval ${isBad ? "bad" : ""}`}
            x={x(check.low)}
            width={Math.max(2, x(check.high) - x(check.low))}
            y={HEIGHT / 2 - 3}
            height="6"
            rx="3"
          />
        )}
        {known(check.loss) &&
          (check.loss > MOST ? (
            <path class={`dot ${isBad ? "bad" : ""}`} d={`M${WIDTH - 16} ${HEIGHT / 2 - 6}l12 6l-12 6z`} />
          ) : (
            <circle class={`dot ${isBad ? "bad" : ""}`} cx={x(check.loss)} cy={HEIGHT / 2} r="5" />
          ))}
      </svg>
      <span class="number">{decimal(check.loss)}</span>
      <span class={limit ? (isBad ? "fails" : "holds") : "muted"}>{limit}</span>
    </div>
  );
}

export function CheckAxis() {
  return (
    <div class="check axis">
      <div />
      <svg class="picture" viewBox={`0 0 ${WIDTH} 16`} aria-hidden="true">
        {[0, 0.2, 0.5, 1].map(tick => (
          <text x={x(tick)} y="12" text-anchor="middle">
            {tick}
          </text>
        ))}
        <text x={x(CHANCE)} y="12" text-anchor="middle">
          guess
        </text>
      </svg>
      <span />
      <span />
    </div>
  );
}

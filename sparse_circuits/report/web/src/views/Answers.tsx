// What model and circuit answered to a prompt, as they are and changed; what they could not, in words.

import { percent } from "../numbers";
import { Likeliest } from "../parts/Likeliest";
import type { Odds, Outcome } from "../server";

export function Answers({ before, after }: { before: Outcome; after: Outcome | null }) {
  const list = (title: string, side: "model" | "circuit") => (
    <>
      {before[side] && <Likeliest title={title} tokens={before[side]} />}
      {after?.[side] && <Likeliest title={`${title}, changed`} tokens={after[side]} />}
    </>
  );
  return (
    <div aria-live="polite">
      <div class="two">
        {list("whole model", "model")}
        {list("circuit", "circuit")}
      </div>
      {before.why && <p class="about">{before.why}</p>}
      {before.answers ? (
        <p class="about">
          Positive against negative answer: <Moved title="model" before={before.answers.model} after={after?.answers?.model} />;{" "}
          <Moved title="circuit" before={before.answers.circuit} after={after?.answers?.circuit} />.
        </p>
      ) : (
        <p class="about">No answers are compared here. {before.why_answers}</p>
      )}
    </div>
  );
}

function Moved({ title, before, after }: { title: string; before: Odds | null; after: Odds | null | undefined }) {
  const words = (odds: Odds | null) => (odds ? odds.map(each => percent(each, 2)).join(" : ") : "–");
  return (
    <span data-odds={title}>
      {title} {words(before)}
      {after && (
        <>
          {" "}
          → <b>{words(after)}</b>
        </>
      )}
    </span>
  );
}

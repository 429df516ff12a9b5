// What the run was made with, folded away.

import type { ComponentChildren } from "preact";
import type { Payload } from "../payload/types";
import { count, percent } from "../numbers";

export function RunFacts({ payload }: { payload: Payload }) {
  const { run, data, model } = payload;
  if (!run) return null;
  const facts = (title: string, rows: [string, unknown][]) => {
    const shown = rows.filter(
      ([, value]) => value !== null && value !== undefined && value !== "" && typeof value !== "object",
    );
    return (
      shown.length > 0 && (
        <section>
          <h4>{title}</h4>
          <dl class="facts">
            {shown.map(([term, value]) => (
              <>
                <dt>{term}</dt>
                <dd>{String(value)}</dd>
              </>
            ))}
          </dl>
        </section>
      )
    );
  };
  const parts: ComponentChildren[] = ["model", "sparsity", "optimizer"].map(part =>
    facts(part, Object.entries((run.config?.[part] ?? {}) as object)),
  );
  return (
    <details class="panel">
      <summary>Model, data, versions</summary>
      <div class="grid three">
        {parts}
        {facts("run", [
          ["seed", run.config?.seed],
          ["device", run.config?.device],
          ["precision", run.config?.precision],
          ["git", run.git],
          ...Object.entries(run.versions ?? {}),
        ])}
        {data &&
          facts("data", [
            ["hash", data.hash.slice(0, 12)],
            ["training tokens", count(data.n_train_tokens)],
            ["validation tokens", count(data.n_validation_tokens)],
            ...data.sources.map(({ title, share }): [string, string] => [title, percent(share)]),
          ])}
        {model?.dead_fraction && (
          <section>
            <h4>dead channels, by kind of site</h4>
            <ul class="bars">
              {Object.entries(model.dead_fraction).map(([kind, share]) => (
                <li>
                  <span class="mono">{kind}</span>
                  <i>
                    <b style={{ width: `${100 * share}%` }} />
                  </i>
                  <span>{percent(share)}</span>
                </li>
              ))}
            </ul>
          </section>
        )}
      </div>
    </details>
  );
}

// A table whose columns can be sorted by their heads.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

type Value = string | number | null | undefined;

export interface ColumnOf<Row> {
  label: string;
  value?: (row: Row) => Value;
  show?: (row: Row) => ComponentChildren;
  title?: string;
  right?: boolean;
  rule?: boolean;
}

interface Props<Row> {
  caption: string;
  columns: ColumnOf<Row>[];
  rows: Row[];
  onRow?: (row: Row) => void;
}

export function Table<Row>({ caption, columns, rows, onRow }: Props<Row>) {
  const [by, setBy] = useState<{ column: number; up: boolean } | null>(null);
  const key = by && columns[by.column].value;
  const ordered = key ? [...rows].sort((a, b) => compare(key(a), key(b), by.up)) : rows;
  const classes = ({ right, rule }: ColumnOf<Row>) => [right && "right", rule && "rule"].filter(Boolean).join(" ") || undefined;
  return (
    <div class="scroll">
      <table aria-label={caption}>
        <thead>
          <tr>
            {columns.map((column, i) => (
              <th
                scope="col"
                class={classes(column)}
                title={column.title}
                aria-sort={by?.column === i ? (by.up ? "ascending" : "descending") : undefined}
              >
                {column.value ? (
                  <button type="button" onClick={() => setBy({ column: i, up: by?.column === i ? !by.up : true })}>
                    {column.label}
                  </button>
                ) : (
                  column.label
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {ordered.map(row => (
            <tr class={onRow && "chosen"} onClick={onRow && (() => onRow(row))}>
              {columns.map((column, i) => {
                const shown = column.show ? column.show(row) : column.value?.(row);
                return i ? (
                  <td class={classes(column)}>{shown}</td>
                ) : (
                  <th scope="row" class={classes(column)}>
                    {shown}
                  </th>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

// What is missing comes last, either way.
function compare(a: Value, b: Value, up: boolean): number {
  const missing = (value: Value) => value === null || value === undefined || Number.isNaN(value);
  if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
  const order =
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return up ? order : -order;
}

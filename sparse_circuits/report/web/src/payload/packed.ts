// Numbers of eight bits, as report/packed.py packs them.

import { bytesOf } from "./read";
import type { Signed } from "./types";

export class Matrix {
  private readonly values: Int8Array;
  readonly nColumns: number;

  constructor(private readonly packed: Signed) {
    this.values = new Int8Array(bytesOf(packed.bytes).buffer);
    this.nColumns = packed.scale.length ? this.values.length / packed.scale.length : 0;
  }

  at(row: number, column: number): number {
    return this.values[row * this.nColumns + column] * (this.packed.scale[row] ?? 0);
  }

  row(row: number, from = 0, to = this.nColumns): number[] {
    return Array.from({ length: to - from }, (_, i) => this.at(row, from + i));
  }
}

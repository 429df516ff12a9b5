// Blocks on a line as near to where they wish to stand as they fit without overlap.

export interface Block {
  spots: number[];
  // Where its middle would stand.
  wish: number;
  width: number;
  // Where its left end stands.
  x: number;
}

export function spread(blocks: Block[]): void {
  blocks.sort((a, b) => a.wish - b.wish);
  let free = -Infinity;
  for (const block of blocks) {
    block.x = Math.max(free, block.wish - block.width / 2);
    free = block.x + block.width;
  }
  // From the left, all have gone too far right: back by as much as they are off on average.
  const off = blocks.reduce((sum, { x, wish, width }) => sum + x - (wish - width / 2), 0) / Math.max(1, blocks.length);
  let limit = free - Math.max(0, off);
  for (const block of [...blocks].reverse()) {
    block.x = Math.min(block.x, limit - block.width);
    limit = block.x;
  }
}

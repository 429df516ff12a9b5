// Sizes that the layout and the drawing share, in pixels.

export const LEFT = 118;
export const PITCH = 38;
export const PILL = 32;
export const PILL_HEIGHT = 18;

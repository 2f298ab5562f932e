/** Why the decoder returned: */
/** all whole frames are read; */
export const STOP_BYTES = 0;
/** the next frame refers to `needed`, which has to be looked up; */
export const STOP_TABLE = 1;
/** a transaction ended, and the bytes read have passed `boundaryAfter`; */
export const STOP_BOUNDARY = 2;
/** the server ended the copy, or refused to start it: `serverMessage`; */
export const STOP_ENDED = 3;
/** the next frame must be made longer by `missingBytes`: see `widen`. */
export const STOP_NARROW = 4;
export type Stop =
  | typeof STOP_BYTES
  | typeof STOP_TABLE
  | typeof STOP_BOUNDARY
  | typeof STOP_ENDED
  | typeof STOP_NARROW;

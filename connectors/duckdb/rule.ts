import type { Connector, ErrorCode, ErrorKind, ErrorReason } from "../../src/core/errors.ts";

/** Which failures of DuckDB get which number. */
export interface Rule {
  /** The kinds that it is for; absent: DuckDB wraps it in messages of several kinds. */
  readonly kinds?: readonly string[];
  /** What the sentence holds, if a kind has several meanings; with `orKinds` also what no kind tells. */
  readonly text?: RegExp;
  /** Kinds for which the sentence does not matter. */
  readonly orKinds?: readonly string[];
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly says: (doing: string, text: string, kind: string) => string;
  readonly hint?: string;
  readonly reason?: ErrorReason;
  readonly part?: Connector["part"];
}

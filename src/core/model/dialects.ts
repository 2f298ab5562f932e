/** Where the values of a source's language go beyond those that Postgres' types have, in whose forms they all come. */
export interface Dialect {
  /** Dates that do not exist (`2026-02-31`), which come as texts where others are binary, and no target can hold. */
  readonly hasAnyDate: boolean;
  /** '' for a value that is none of an enum's labels, where a server's mode lets that pass. */
  readonly hasEmptyLabel: boolean;
  /** NUL in texts. */
  readonly hasNul: boolean;
  /** Texts that are no UTF-8, with half of a pair of surrogates. */
  readonly hasHalves: boolean;
}

/** By `TableVersion.dialect`, which is stored with every shape: a name that was given stays. */
export const DIALECTS = {
  postgres: { hasAnyDate: false, hasEmptyLabel: false, hasNul: false, hasHalves: false },
  mysql: { hasAnyDate: true, hasEmptyLabel: true, hasNul: true, hasHalves: true },
} as const satisfies Readonly<Record<string, Dialect>>;

export type DialectName = keyof typeof DIALECTS;

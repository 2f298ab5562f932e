/** The form of a sink's tables: `deletes` and `mode` of its configuration. */
export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

/** How tables are made on a cluster. */
export interface Placement {
  /** The cluster's name on the server; undefined: tables are made on the server itself. */
  readonly cluster: string | undefined;
  /** Whether an insert waits until its files are on the disk. */
  readonly fsync: boolean;
}

/** Something that is not well, and what to do about it. */
export interface Concern {
  /** The same for as long as it lasts: its kind, and the sink and the table that it is of. */
  readonly id: string;
  readonly kind: string;
  /** `act`: it waits for a person; `watch`: Millrace deals with it. */
  readonly level: "act" | "watch";
  readonly sink: string | null;
  readonly table: string | null;
  readonly what: string;
  /** Of the error behind it; null: there is none. */
  readonly code: string | null;
  readonly message: string | null;
  /** When it began, or was found. */
  readonly since: string | null;
  /** When Millrace last tried to get over it. */
  readonly lastTried: string | null;
  /** What Millrace does about it by itself. */
  readonly meanwhile: string | null;
  /** What a person does about it. */
  readonly fix: string | null;
}

/** What the receiver of `notify.webhook` was last told to be not well. */
export interface NoticeStore {
  list(): Promise<readonly Concern[]>;
  replace(concerns: readonly Concern[]): Promise<void>;
}

/** The error over which a daemon ended. */
export interface Ending {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly at: string;
}

/** Why the last daemon ended, until the next one starts. Null: it was stopped, or killed. */
export interface EndingStore {
  get(): Promise<Ending | null>;
  set(ending: Ending | null): Promise<void>;
}

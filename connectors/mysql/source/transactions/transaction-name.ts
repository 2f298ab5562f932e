export interface TransactionName {
  /** As the server spells it; empty where it has none. */
  readonly gtid: string;
  /** Microseconds since 1970; 0n where it says none. */
  readonly committedUs: bigint;
  /** The same at the server where it was committed first: it goes along to every host. 0n where it says none. */
  readonly originUs: bigint;
  /** MariaDB: a statement follows that is a transaction by itself, without begin and end. */
  readonly isAlone: boolean;
  /** Its rows count only when its outcome is told, by another one. */
  readonly isPrepared: boolean;
  /** MariaDB: its session wrote to tables without transactions, too: its end may be that it is rolled back. */
  readonly isMixed: boolean;
}

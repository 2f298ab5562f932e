export interface TransactionName {
  /** As the server spells it; empty if it has none. */
  readonly gtid: string;
  /** Microseconds since 1970; 0n if the log does not say. */
  readonly committedUs: bigint;
  /** The same at the server where it was first committed; every host passes it on. 0n if the log does not say. */
  readonly originUs: bigint;
  /** MariaDB: a single statement follows, without begin and end. */
  readonly isAlone: boolean;
  /** Its rows count only when another transaction brings its outcome. */
  readonly isPrepared: boolean;
  /** MariaDB: its session also wrote to non-transactional tables, so it may end with a rollback. */
  readonly isMixed: boolean;
}

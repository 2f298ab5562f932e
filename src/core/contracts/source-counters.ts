/** What a source may tell besides its log. Each is a field of `status` with its name, and a metric; both are public. */
export const SOURCE_COUNTERS = [
  {
    name: "zeroDates",
    metric: "millrace_source_zero_dates",
    help: "MySQL and MariaDB: dates that do not exist, counted since the start; see zeroDates of the tables.",
  },
  {
    name: "unconfirmedBytes",
    metric: "millrace_slot_unconfirmed_bytes",
    help: "Postgres: log behind the position that the slot has as confirmed.",
  },
  {
    name: "oldestTransactionSeconds",
    metric: "millrace_source_oldest_transaction_seconds",
    help: "How long the oldest open transaction has lasted, on Postgres the oldest that writes or is prepared: the slot keeps the log from its beginning on. MySQL and MariaDB tell it to users with PROCESS.",
  },
  {
    name: "spilledTransactions",
    metric: "millrace_slot_spilled_transactions",
    help: "Postgres: transactions that the server wrote to its disk while it decoded them (spill_txns).",
  },
  {
    name: "spilledBytes",
    metric: "millrace_slot_spilled_bytes",
    help: "Postgres: bytes that it wrote so, because a transaction was beyond logical_decoding_work_mem (spill_bytes).",
  },
] as const;

type SourceCounter = (typeof SOURCE_COUNTERS)[number]["name"];

/** Null: the source does not count it, or could not be asked. */
export type SourceCounts = Readonly<Record<SourceCounter, number | null>>;

export const NOT_COUNTED: SourceCounts = {
  zeroDates: null,
  unconfirmedBytes: null,
  oldestTransactionSeconds: null,
  spilledTransactions: null,
  spilledBytes: null,
};

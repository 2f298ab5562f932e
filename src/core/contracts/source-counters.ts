/**
 * What a source may count beside its log, since it was opened. Each is a field of `status`, by its name, and a metric; both
 * are public.
 */
export const SOURCE_COUNTERS = [
  {
    name: "zeroDates",
    metric: "millrace_source_zero_dates",
    help: "MySQL and MariaDB: dates that do not exist, as they were met since the start; see zeroDates of the tables.",
  },
] as const;

export type SourceCounter = (typeof SOURCE_COUNTERS)[number]["name"];

/** Null: the source does not count it, or could not be asked. */
export type SourceCounts = Readonly<Record<SourceCounter, number | null>>;

export const NOT_COUNTED: SourceCounts = { zeroDates: null };

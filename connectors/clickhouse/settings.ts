/**
 * What each statement sets, as far as the user's profile lets it. Limits that a profile has for people who type statements
 * end statements of the sink, or cut their answers: they are lifted. What the sink relies on is set, or the sink refuses to
 * work. What protects the server itself, its memory, stays as it is.
 */
import { ClickHouseError, type ClickHouseSettings } from "@clickhouse/client";
import { keptSetting } from "./errors.ts";

/** A statement that takes longer counts as lost. Filling a table again from itself can take long. */
export const REQUEST_MS_MAX = 600_000;

/**
 * A table takes a batch at once instead of collecting it with others, and takes an equal one again: its rows may be gone
 * meanwhile. Statements that change a table end when it is changed; reads see what is there, all of it.
 */
const SET: Readonly<Record<string, string>> = {
  async_insert: "0",
  insert_deduplicate: "0",
  mutations_sync: "2",
  alter_sync: "2",
  use_query_cache: "0",
  force_primary_key: "0",
  force_index_by_date: "0",
  limit: "0",
  offset: "0",
};

/** What the profile must have, or some statements set. */
const ALSO_NEEDED: Readonly<Record<string, string>> = {
  readonly: "0",
  allow_ddl: "1",
  insert_deduplicate: "1",
  allow_nondeterministic_mutations: "1",
  output_format_json_quote_64bit_integers: "1",
  output_format_json_quote_decimals: "1",
  output_format_json_quote_denormals: "1",
};
/** Of these the sink has no use for another value, but the profile must have it. */
const NEVER_SET: ReadonlySet<string> = new Set(["readonly", "allow_ddl"]);

/** With these, a read sees what a quorum of replicas has taken. */
function quorumSettings(quorum: Quorum): Readonly<Record<string, string>> {
  if (quorum === undefined) return {};
  return { insert_quorum: String(quorum), insert_quorum_parallel: "0", select_sequential_consistency: "1" };
}

/** 0 lifts each of them. */
const LIMITS: readonly string[] = [
  ["execution_time", "execution_time_leaf", "estimated_execution_time", "execution_speed", "execution_speed_bytes"],
  ["result_rows", "result_bytes", "rows_to_read", "bytes_to_read", "rows_to_read_leaf", "bytes_to_read_leaf"],
  ["rows_to_group_by", "rows_to_sort", "bytes_to_sort", "rows_in_set", "bytes_in_set", "rows_in_join"],
  ["bytes_in_join", "rows_in_distinct", "bytes_in_distinct", "rows_to_transfer", "bytes_to_transfer"],
  ["columns_to_read", "temporary_columns", "temporary_non_const_columns", "partitions_to_read"],
  ["partitions_per_insert_block", "table_size_to_drop", "partition_size_to_drop"],
  ["concurrent_queries_for_user", "temporary_data_on_disk_size_for_query"],
]
  .flat()
  .map((limit) => `max_${limit}`);
/** The same, but a higher one is a narrower one. */
const FLOORS: readonly string[] = ["min_execution_speed", "min_execution_speed_bytes"];
/** Of these so much is enough: of a statement's form what a server has by default, and how long it waits for a busy client. */
const ENOUGH: Readonly<Record<string, string>> = {
  max_ast_depth: "1000",
  max_ast_elements: "50000",
  max_expanded_ast_elements: "500000",
  max_parser_depth: "1000",
  max_parser_backtracks: "1000000",
  max_subquery_depth: "100",
  http_receive_timeout: String(REQUEST_MS_MAX / 1000),
  http_send_timeout: String(REQUEST_MS_MAX / 1000),
};
/** Whether a limit ends the statement or cuts its answer. */
const OVERFLOW_MODE = "_overflow_mode";
/** How many bytes of a statement are parsed. */
const QUERY_SIZE = "max_query_size";
/** No statement of ours reaches it. */
const ENDLESS = "1000000000000";

/** With these the question for all others is answered whole. */
const OF_A_QUESTION: Readonly<Record<string, string>> = {
  offset: "0",
  max_execution_time: "0",
  max_rows_to_read: "0",
  max_bytes_to_read: "0",
  max_columns_to_read: "0",
  max_query_size: "65536",
  ...ENOUGH,
};

/** The user may only read, a setting has a constraint, or there is none of this name. */
const MAY_NOT_SET: ReadonlySet<string> = new Set(["164", "452", "115"]);

type Quorum = number | "auto" | undefined;
type Ask = (sql: string, settings: ClickHouseSettings) => Promise<readonly (readonly (string | null)[])[]>;

/** A limit of the user's profile that the user may not lift. */
export interface FixedLimit {
  readonly name: string;
  readonly value: string;
}

interface Setting {
  readonly name: string;
  readonly value: string;
  /** Its constraint. */
  readonly min: string | null;
  readonly max: string | null;
  readonly isConst: boolean;
}

export class StatementSettings {
  readonly fixedLimits: readonly FixedLimit[];
  readonly #all: ClickHouseSettings;
  readonly #querySize: Setting | undefined;

  private constructor(all: ClickHouseSettings, fixedLimits: readonly FixedLimit[], querySize: Setting | undefined) {
    this.#all = all;
    this.fixedLimits = fixedLimits;
    this.#querySize = querySize;
  }

  /** Asks first: one setting that a profile keeps, or that the server does not know, would have it refuse every statement. */
  static async read(ask: Ask, quorum: Quorum): Promise<StatementSettings> {
    const set = { ...SET, ...quorumSettings(quorum) };
    const names = [...LIMITS, ...FLOORS, QUERY_SIZE, ...Object.keys({ ...ENOUGH, ...set, ...ALSO_NEEDED })];
    const there = await settingsOf(ask, names);
    const all: Record<string, string> = {};
    const fixed: FixedLimit[] = [];
    for (const setting of there.values()) {
      const { name, value } = setting;
      const [wanted, also] = [set[name], ALSO_NEEDED[name]];
      for (const needed of [wanted, also]) if (needed !== undefined) expectAllowed(setting, needed);
      if (wanted !== undefined) all[name] = wanted;
      if (!LIMITS.includes(name) && !FLOORS.includes(name) && ENOUGH[name] === undefined) continue;
      const lifted = liftedOf(setting);
      if (lifted !== value) all[name] = lifted;
      if (Number(lifted) !== 0 && Number(lifted) < Number(ENOUGH[name] ?? ENDLESS)) fixed.push({ name, value: lifted });
    }
    for (const setting of there.values()) {
      if (!setting.name.endsWith(OVERFLOW_MODE) || setting.value === "throw") continue;
      if (fixed.length > 0) expectAllowed(setting, "throw");
      if (allows(setting, "throw")) all[setting.name] = "throw";
    }
    return new StatementSettings(all, fixed, there.get(QUERY_SIZE));
  }

  /** One key may be longer than what a server parses by itself. */
  of(sql: string): ClickHouseSettings {
    const size = this.#querySize;
    const wanted = 2 * Buffer.byteLength(sql);
    if (size === undefined || wanted <= Number(size.value)) return this.#all;
    const most = Math.min(wanted, Number(size.isConst ? size.value : (size.max ?? wanted)));
    return { ...this.#all, [QUERY_SIZE]: String(most) };
  }
}

/** A cut answer has none of the ends of the list. */
async function settingsOf(ask: Ask, names: readonly string[]): Promise<ReadonlyMap<string, Setting>> {
  const list = names.map((name) => `'${name}'`).join(", ");
  const rows = await askedWhole(
    ask,
    "SELECT arraySort(groupArray((name, value, min, max, toString(readonly)))) FROM system.settings " +
      `WHERE name IN (${list}) OR endsWith(name, '${OVERFLOW_MODE}')`,
  );
  const found: unknown = JSON.parse(rows[0]?.[0] ?? "[]");
  const settings = (Array.isArray(found) ? found : []).map((setting: (string | null)[]): readonly [string, Setting] => {
    const [name, value, min, max, readonly] = setting;
    return [
      name ?? "",
      { name: name ?? "", value: plain(value), min: min ?? null, max: max ?? null, isConst: plain(readonly) === "1" },
    ];
  });
  return new Map(settings);
}

/** Whatever way the server spells a truth value, and none for a limit. */
function plain(text: string | null | undefined): string {
  return text === "true" ? "1" : text === "false" || text === "-1" ? "0" : (text ?? "");
}

/** What the profile does not let us set, or the server does not know, is left out. */
async function askedWhole(ask: Ask, sql: string): ReturnType<Ask> {
  const settings = new Map(Object.entries(OF_A_QUESTION));
  for (;;) {
    try {
      return await ask(sql, Object.fromEntries(settings));
    } catch (error) {
      const refused = refusedSetting(error);
      if (refused === null || !settings.delete(refused)) throw error;
    }
  }
}

/** The setting that the server did not take from us. */
function refusedSetting(error: unknown): string | null {
  if (!(error instanceof ClickHouseError) || !MAY_NOT_SET.has(error.code)) return null;
  return (
    /\b[Ss]etting '?(\w+)'?|'(\w+)' setting/
      .exec(error.message)
      ?.slice(1)
      .find((name) => name !== undefined) ?? null
  );
}

/** The server takes a value that is there already, whatever the constraint says. */
function allows({ value, min, max, isConst }: Setting, wanted: string): boolean {
  if (value === wanted) return true;
  return !isConst && (min === null || Number(min) <= Number(wanted)) && (max === null || Number(wanted) <= Number(max));
}

function expectAllowed(setting: Setting, wanted: string): void {
  const { name, value } = setting;
  if (NEVER_SET.has(name) ? value !== wanted : !allows(setting, wanted)) throw keptSetting(name, value, wanted);
}

/** What comes nearest to no limit. */
function liftedOf(setting: Setting): string {
  const { name, value, max } = setting;
  const enough = ENOUGH[name];
  if (Number(value) === 0 || (enough !== undefined && Number(enough) <= Number(value))) return value;
  const none = enough ?? "0";
  if (allows(setting, none)) return none;
  if (FLOORS.includes(name)) return value;
  const highest = max ?? ENDLESS;
  return allows(setting, highest) && Number(highest) > Number(value) ? highest : value;
}

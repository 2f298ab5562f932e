/** Transforms and converters of Kafka Connect. Those that hide something are carried over, or stop the config from loading. */
import type { DebeziumConfig } from "./debezium-config.ts";
import type { HiddenColumns } from "./debezium-rules.ts";

export interface Shaped {
  /** True: records are rows, as ExtractNewRecordState makes them. */
  readonly isFlat: boolean;
  readonly hasTombstones: boolean;
}

const OTHER_TOPICS = "topics are named <prefix><name>.<schema>.<table>: the sink's `prefix` and `topic` change that";
/** Not carried over: records of merged tables have the added columns in their rows too, and no regular expression is a glob. */
const MERGED_TOPICS =
  "topics are named <prefix><name>.<schema>.<table>: `into` and `add` in `tables` give tables another name, or one topic";
const OTHER_FORM = "records are written without it; `tables` drops, masks and renames columns";
/** Of Kafka Connect, Debezium and Confluent, or a name alone. Another class of the same name may hide whatever it likes. */
const OF_KNOWN_MAKERS = /^(?:(?:org\.apache\.kafka|io\.debezium|io\.confluent)\..*\.)?[^.]+$/s;

/** What records look like without a transform, by the last part of its class. Those that can hide values are not here. */
const HARMLESS: ReadonlyMap<string, string> = new Map([
  ["RegexRouter", MERGED_TOPICS],
  ["TimestampRouter", OTHER_TOPICS],
  ["ByLogicalTableRouter", MERGED_TOPICS],
  ["ContentBasedRouter", OTHER_TOPICS],
  ["ExtractTopic", OTHER_TOPICS],
  ["MessageTimestampRouter", OTHER_TOPICS],
  ["SchemaChangeEventFilter", "no record tells of a changed table"],
  [
    "TimescaleDb",
    "a hypertable's rows lie in its chunks, which are tables of their own here: `into` gives them one name",
  ],
  ["DecodeLogicalDecodingMessageContent", "messages of pg_logical_emit_message are not written to the sink"],
  ["ReadToInsertEvent", 'a row of a copy has the op "r"'],
  ["ActivateTracingSpan", "`telemetry` sends traces"],
  ["GeometryFormatTransformer", OTHER_FORM],
  ["SwapGeometryCoordinates", OTHER_FORM],
  ["PartitionRouting", "rows are distributed over partitions by their key"],
  ["ExtractChangedRecordState", "no header lists the changed columns: a change has its row before and after"],
  ["ExtractSchemaToNewRecord", OTHER_FORM],
  ["HeaderToValue", OTHER_FORM],
  ["InsertField", OTHER_FORM],
  ["InsertHeader", OTHER_FORM],
  ["DropHeaders", OTHER_FORM],
  ["HeaderFrom", OTHER_FORM],
  ["Flatten", OTHER_FORM],
  ["HoistField", OTHER_FORM],
  ["Cast", OTHER_FORM],
  ["SetSchemaMetadata", OTHER_FORM],
  ["TimestampConverter", OTHER_FORM],
  ["TimezoneConverter", "times are written in UTC"],
  ["ValueToKey", "a record's key is the row's key: `key` in `tables` chooses other columns that tell rows apart"],
]);
const OF_THE_KEY: ReadonlyMap<string, string> = new Map([
  ["ExtractField", OTHER_FORM],
  ["Drop", OTHER_FORM],
]);

export function shapedBy(given: DebeziumConfig, hidden: HiddenColumns): Shaped {
  const names = listOf(given.take("transforms"));
  /** Columns by the names that transforms have given them. */
  const renamed = new Map<string, string>();
  // Confluent Cloud has no transform for it.
  const isFlatCloud = given.takeFlag("after.state.only") === true;
  let shaped: Shaped | null = null;
  // Under a predicate some records stay as they are: a field `before` is all that the row was.
  let isFlatForSome = false;
  let keepsTombstones = true;
  /** Predicates whose meaning is carried over. */
  const told = new Set<string>();
  /** Between the names of a field and of one within it. */
  let separator: string | null = null;
  const isOfRows = (part: string): boolean => (shaped !== null || isFlatCloud) && !isFlatForSome && part === "Value";
  for (const name of names) {
    const key = `transforms.${name}`;
    const own = new Map(
      given.startingWith(`${key}.`).map(([each, value]) => [each.slice(key.length + 1), value.trim()]),
    );
    for (const each of own.keys()) given.take(`${key}.${each}`);
    const type = own.get("type") ?? "";
    const [last = "", part = "Value"] = OF_KNOWN_MAKERS.test(type) ? (type.split(".").at(-1) ?? "").split("$") : [];
    if (last === "ExtractNewRecordState" || last === "UnwrapFromEnvelope") {
      shaped = flat(given, key, own);
      isFlatForSome ||= own.has("predicate");
    } else if (last === "EventRouter") outboxed(given, hidden, key, own);
    else if (last === "TombstoneHandler") keepsTombstones = false;
    else if (isOfTombstones(given, type, own)) {
      keepsTombstones = false;
      told.add(own.get("predicate") ?? "");
    } else if (last === "Filter") {
      given.block(key, "it leaves rows out: write its condition as `where` in `tables`, in SQL");
      hidden.filter();
    } else if (last === "ReplaceField" || last === "MaskField" || movesFields(last, own))
      hiddenBy(given, hidden, { key, last, own, renamed, separator, isOfRows: isOfRows(part) });
    else {
      if (part === "Value" && last === "Flatten") separator = own.get("delimiter") || ".";
      // What follows names fields of another object.
      if (part === "Value" && last === "HoistField") isFlatForSome = true;
      if (isOfRows(part))
        for (const field of replacedBy(last, own)) hidden.add(renamed.get(field) ?? field, "redact", false);
      const why = HARMLESS.get(last) ?? (part === "Key" ? OF_THE_KEY.get(last) : undefined);
      if (why !== undefined) given.leave(key, `${last}: ${why}`);
      else {
        given.block(key, `what ${type === "" ? "it" : type} hides or leaves out is not known: write it to \`tables\``);
        hidden.hideAll();
      }
    }
  }
  unused(given, names, told);
  convertersOf(given, hidden);
  const { isFlat, hasTombstones } = shaped ?? { isFlat: isFlatCloud, hasTombstones: true };
  return { isFlat, hasTombstones: hasTombstones && keepsTombstones };
}

/** Kafka Connect's own filter has no condition but its predicate. */
function isOfTombstones(given: DebeziumConfig, type: string, own: ReadonlyMap<string, string>): boolean {
  const key = `predicates.${own.get("predicate") ?? ""}.type`;
  const [predicate = ""] = given.startingWith(key).flatMap(([each, value]) => (each === key ? [value.trim()] : []));
  return (
    type === "org.apache.kafka.connect.transforms.Filter" &&
    predicate === "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone" &&
    own.get("negate")?.toLowerCase() !== "true"
  );
}

function unused(given: DebeziumConfig, names: readonly string[], told: ReadonlySet<string>): void {
  for (const [key] of given.startingWith("transforms.")) {
    const name = key.split(".")[1] ?? "";
    if (!names.includes(name)) given.note(key, `${name} is not in the list \`transforms\`: it does nothing`);
  }
  const isAny = names.length > 0;
  for (const [key, value] of given.startingWith("predicates"))
    if ((key === "predicates" ? listOf(value) : [key.split(".")[1] ?? ""]).every((name) => told.has(name)))
      given.take(key);
    else if (isAny) given.leave(key, "no transform runs, so none is chosen by a predicate");
    else given.note(key, "no transform is in the list `transforms`");
}

const FLAT_KEYS = new Set([
  "type",
  "add.fields",
  "drop.tombstones",
  "delete.handling.mode",
  "delete.tombstone.handling.mode",
]);
const FLAT_FIELDS = "op,table,source.ts_ms,lsn";

/** Debezium 3 has `delete.tombstone.handling.mode`, before it there were two keys. */
function flat(given: DebeziumConfig, key: string, own: ReadonlyMap<string, string>): Shaped {
  const mode = deletesOf(own);
  if (!mode.startsWith("rewrite"))
    given.leave(
      key,
      `ExtractNewRecordState: a delete is the old row with "__deleted":"true", as by rewrite-with-tombstone; it was ${mode}`,
    );
  const added = listOf(own.get("add.fields") ?? "");
  if (added.toSorted().join(",") !== FLAT_FIELDS.split(",").toSorted().join(","))
    given.leave(key, `ExtractNewRecordState: the fields beside the row are those of add.fields=${FLAT_FIELDS}`);
  const others = [...own.keys()].filter((each) => !FLAT_KEYS.has(each));
  if (others.length > 0) given.leave(key, `ExtractNewRecordState: without ${others.join(", ")}`);
  return { isFlat: true, hasTombstones: mode === "rewrite-with-tombstone" || mode === "tombstone" };
}

function deletesOf(own: ReadonlyMap<string, string>): string {
  const mode = own.get("delete.tombstone.handling.mode")?.toLowerCase();
  if (mode !== undefined) return mode;
  const former = own.get("delete.handling.mode")?.toLowerCase();
  const keepsTombstones = own.get("drop.tombstones")?.toLowerCase() === "false";
  if (former === undefined && !own.has("drop.tombstones")) return "tombstone";
  if (former === "rewrite") return keepsTombstones ? "rewrite-with-tombstone" : "rewrite";
  return former === "none" ? "none" : keepsTombstones ? "tombstone" : "drop";
}

/** What an outbox table's messages have of its columns, by the transform's keys and their defaults. */
const OF_MESSAGES: Readonly<Record<string, string>> = {
  "table.field.event.id": "id",
  "table.field.event.key": "aggregateid",
  "table.field.event.payload": "payload",
  "table.field.event.timestamp": "",
  "table.field.event.schema.version": "",
  "route.by.field": "aggregatetype",
};

function outboxed(given: DebeziumConfig, hidden: HiddenColumns, key: string, own: ReadonlyMap<string, string>): void {
  const placed = listOf(own.get("table.fields.additional.placement") ?? "").map((each) => each.split(":")[0]!.trim());
  const fields = Object.entries(OF_MESSAGES).map(([field, column]) => own.get(field) || column);
  const columns = [...new Set([...fields, ...placed])].filter((column) => column !== "");
  if (!own.has("predicate") && !columns.some((column) => column.includes("${")) && hidden.keep(columns)) {
    const why = "rows of an outbox table are written as rows of that table, with those columns that its messages have";
    given.leave(key, `EventRouter: ${why}`);
    return;
  }
  given.block(key, "EventRouter: write which columns its messages have: `columns: { only: […] }` for the outbox table");
  hidden.hideAll();
}

interface Hiding {
  readonly key: string;
  readonly last: string;
  readonly own: ReadonlyMap<string, string>;
  readonly renamed: Map<string, string>;
  /** See `shapedBy`. Null: there are none within others. */
  readonly separator: string | null;
  /** True: its fields are columns. */
  readonly isOfRows: boolean;
}

/** To headers, which another transform may drop. */
function movesFields(last: string, own: ReadonlyMap<string, string>): boolean {
  return last === "HeaderFrom" && own.get("operation")?.toLowerCase() === "move";
}

/** Fields of which other transforms leave another value, or a part: where values have no schema, what is inserted replaces. */
function replacedBy(last: string, own: ReadonlyMap<string, string>): readonly string[] {
  switch (last) {
    case "InsertField":
      return [...own].flatMap(([option, value]) => (option.endsWith(".field") ? [value.replace(/[!?]$/, "")] : []));
    case "Cast":
      return listOf(own.get("spec") ?? "").flatMap((each) => /^(.*):\s*boolean$/is.exec(each)?.[1]?.trim() ?? []);
    case "TimestampConverter": {
      const hasDay =
        own.get("target.type") === "string" ? /d/i.test(own.get("format") ?? "") : own.get("target.type") !== "Time";
      return hasDay ? [] : listOf(own.get("field") ?? "");
    }
    default:
      return [];
  }
}

/** What a transform hides of records under a predicate, or of some topics, is hidden in every table. */
function hiddenBy(given: DebeziumConfig, hidden: HiddenColumns, hiding: Hiding): void {
  const { key, last, own, renamed, separator, isOfRows } = hiding;
  const lists = last === "ReplaceField" ? ["exclude", "blacklist"] : ["fields"];
  const fields = lists.flatMap((list) => listOf(own.get(list) ?? ""));
  const kept = own.get("include") ?? own.get("whitelist") ?? "";
  const isUnsaid = fields.some((field) => field.includes("${")) || (fields.length === 0 && !own.has("renames"));
  if (!isOfRows || kept !== "" || isUnsaid) {
    given.block(key, `${last}: write the columns that it hides, or all that it leaves, to \`tables\``);
    hidden.hideAll();
    return;
  }
  for (const field of fields) {
    const how = last === "MaskField" ? "redact" : "drop";
    const column = renamed.get(field);
    if (column !== undefined) hidden.add(column, how);
    const wholes = separator === null ? [] : startsOf(field, separator);
    for (const whole of wholes) hidden.add(renamed.get(whole) ?? whole, how, false);
    hidden.add(field, how, column === undefined && wholes.length === 0);
  }
  // All at once: two columns may swap their names.
  const before = new Map(renamed);
  for (const pair of listOf(own.get("renames") ?? "")) {
    const [from = "", to = ""] = pair.split(":").map((each) => each.trim());
    renamed.set(to, before.get(from) ?? from);
  }
  if (fields.length > 0) given.leave(key, `${last}: ${fields.join(", ")} hidden in every table that has such a column`);
  if (own.has("renames")) given.leave(key, `${last}: no column is renamed: \`rename\` in \`tables\` does it`);
}

/** The columns that may have this field within them, once it is flattened. */
function startsOf(field: string, separator: string): readonly string[] {
  const parts = field.split(separator);
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join(separator));
}

/** What changes values before any transform: classes that are not Debezium's may hide them. */
const CHANGING = [
  ["converters", "values have the form that Debezium gives them without it"],
  ["post.processors", "a value that the log leaves out is taken from the sink, or read"],
] as const;

/** Rules of a registry, which a converter carries out: they encrypt fields. */
const OF_RULES = /^(?:csfle\.enabled$|(?:key|value)\.converter\.(?:.*\.)?rule\.)/;

function convertersOf(given: DebeziumConfig, hidden: HiddenColumns): void {
  for (const [key, value] of given.startingWith("")) {
    if (!OF_RULES.test(key) || value.trim().toLowerCase() === "false") continue;
    given.take(key);
    given.block(key, "which fields the registry's rules encrypt is not in the file: write them to `tables`");
    hidden.hideAll();
  }
  for (const [list, why] of CHANGING)
    for (const name of listOf(given.take(list))) {
      const type = given.take(`${name}.type`) ?? "";
      for (const [key] of given.startingWith(`${name}.`)) given.take(key);
      if (type.startsWith("io.debezium.")) {
        given.leave(`${list}: ${name}`, why);
        continue;
      }
      given.block(`${list}: ${name}`, "what it hides is not known: write the columns to `tables`");
      hidden.hideAll();
    }
}

function listOf(text: string | null): readonly string[] {
  return (text ?? "")
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
}

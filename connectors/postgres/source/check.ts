/** Preflight of the source: every finding with the statement that corrects it. Changes nothing. */
import type { Finding } from "../../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { classify } from "./errors.ts";
import { publicationFindings, tableFindings } from "./check-tables.ts";
import type { SourceContext } from "./wire/context.ts";
import { selectTables } from "./catalog/selection.ts";
import { readServer, serverProblems, type ServerFacts } from "./log/server.ts";
import {
  checkSlotKind,
  checkSlotValid,
  grantRunning,
  oldestTransaction,
  readSlot,
  RUNNING_FUNCTION,
} from "./log/slot.ts";
import { hasGaps } from "./stream/transcoder.ts";
import { Database } from "./wire/database.ts";
import { connectReplication, identifySystem } from "./wire/replication-connection.ts";
import { failed, looked, ok, warning, wrong } from "../../kit/findings.ts";
import { quoteIdentifier, quoteLiteral } from "../../../src/postgres/quote.ts";
import { ABSENT_FIX, ABSENT_STANDBYS_SQL, saysAbsent } from "./log/health.ts";
import { endsIt, saysWho } from "../blocking-transactions.ts";

const OPEN_SECONDS_MAX = 60;

type Look = (context: SourceContext, facts: ServerFacts, signal: AbortSignal) => Promise<readonly Finding[]>;

const LOOKS: readonly (readonly [id: string, look: Look])[] = [
  ["postgres.wal_level", checkSettings],
  ["postgres.replication", checkReplication],
  ["postgres.endpoint", checkEndpoint],
  ["postgres.standby", checkStandby],
  ["postgres.tables", checkTables],
  ["postgres.slot", checkSlot],
  ["postgres.transactions", checkOpen],
  ["postgres.failover", checkFailover],
  ["postgres.max_slot_wal_keep_size", checkKeep],
];

export async function check(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  let facts: ServerFacts;
  try {
    facts = await readServer(context, signal);
  } catch (error) {
    return [failed("postgres.connect", classify(error, "connecting to the source"))];
  }
  const version = `Postgres ${Math.floor(facts.version / 10_000)}.${facts.version % 10_000}`;
  const findings: Finding[] = [
    ok("postgres.connect", `connected to ${version}, database ${facts.database}, as ${facts.user}`),
  ];
  const known = (error: unknown): MillraceError => classify(error, "checking the source");
  for (const [id, look] of LOOKS) findings.push(...(await looked(id, known, () => look(context, facts, signal))));
  return findings;
}

async function checkSettings(context: SourceContext, facts: ServerFacts): Promise<Finding[]> {
  const problems = serverProblems(facts);
  const findings: Finding[] = problems.map(({ id, error }) => failed(id, error));
  if (problems.length === 0)
    findings.push(ok("postgres.wal_level", "wal_level is logical, and the role may replicate"));
  if (await hasGaps(context.database, facts.encoding))
    findings.push(
      warning(
        "postgres.encoding",
        `the database has the encoding ${facts.encoding}, which takes texts without a form in UTF-8: a row with one suspends its table (MR2037)`,
        "Move the data into a database with the encoding UTF8, or let every client set client_encoding to UTF8 and send nothing else.",
      ),
    );
  return findings;
}

async function checkReplication(context: SourceContext, facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  // The reason why it can't be tried was already reported.
  if (serverProblems(facts).length > 0) return [];
  using connection = await connectReplication(context.address, signal);
  const { systemIdentifier, timeline } = await identifySystem(connection, signal);
  return [ok("postgres.replication", `replication works; system ${systemIdentifier}, timeline ${timeline}`)];
}

async function checkTables(context: SourceContext, facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  const selected = await selectTables(context, false, signal);
  return [...tableFindings(context, selected), ...(await publicationFindings(context, facts, selected, signal))];
}

async function checkSlot(context: SourceContext, _facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  const id = "postgres.slot";
  const slot = await readSlot(context, signal);
  if (slot !== undefined) {
    checkSlotKind(context, slot);
    checkSlotValid(context, slot);
    return [
      ok(
        id,
        `the slot ${context.slot} is there${slot.activePid === null ? "" : `, in use by process ${slot.activePid}`}`,
      ),
    ];
  }
  const [row] = await context.database.rows<{ slots: number; slotMax: number; senders: number; senderMax: number }>(
    "counting slots",
    `select (select count(*) from pg_replication_slots)::int as slots, current_setting('max_replication_slots')::int as "slotMax",
       (select count(*) from pg_stat_replication)::int as senders, current_setting('max_wal_senders')::int as "senderMax"`,
    [],
    signal,
  );
  const findings: Finding[] = [];
  if (row !== undefined && row.slots >= row.slotMax) {
    findings.push(
      wrong(
        id,
        `all ${row.slotMax} replication slots are taken`,
        `ALTER SYSTEM SET max_replication_slots = ${row.slotMax + 5}; then restart the server. Or drop a slot that nobody uses.`,
      ),
    );
  }
  if (row !== undefined && row.senders >= row.senderMax) {
    findings.push(
      wrong(
        id,
        `all ${row.senderMax} WAL senders are taken`,
        `ALTER SYSTEM SET max_wal_senders = ${row.senderMax + 5}; then restart the server.`,
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(id, `there is no slot ${context.slot}, which a first start makes`)];
}

/** Of an endpoint that takes turns between two servers, one of 16 misses it. */
const CONNECTIONS_COMPARED = 5;

interface AnsweringServer {
  /** When it started, and its address: no two servers have both. */
  readonly name: string;
  readonly standby: boolean;
}

const ANSWERING_SQL = `select concat_ws(' ', extract(epoch from pg_postmaster_start_time()), inet_server_addr(), inet_server_port()) as name,
  pg_is_in_recovery() as standby`;

/**
 * Whether all connections meet one server. Behind an endpoint that balances, a slot, a mark or a read would be another server's
 * than the stream.
 */
async function checkEndpoint(
  { address }: SourceContext,
  _facts: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const id = "postgres.endpoint";
  const servers = new Map<string, AnsweringServer>();
  for (let i = 0; i < CONNECTIONS_COMPARED; i++) {
    const database = new Database(address);
    try {
      const [row] = await database.rows<AnsweringServer>("asking which server answers", ANSWERING_SQL, [], signal);
      if (row !== undefined) servers.set(row.name, row);
    } finally {
      await database.close();
    }
  }
  if (servers.size <= 1) return [ok(id, `${CONNECTIONS_COMPARED} connections met one server`)];
  const standbys = [...servers.values()].filter(({ standby }) => standby).length;
  const what = `source.url leads to ${servers.size} servers in turn, ${standbys} of them standbys: what Millrace reads and what it streams would be of different servers`;
  return [wrong(id, what, "Let source.url name one server: the primary's endpoint, or one standby's own.")];
}

interface StandbyRow {
  readonly feedback: string;
  readonly physicalSlot: string;
}

interface PrimaryRow {
  readonly walLevel: string;
  readonly mayAsk: boolean;
}

const RUNNING_SQL = `select current_setting('wal_level') as "walLevel",
  has_function_privilege(current_user, 'pg_catalog.${RUNNING_FUNCTION}', 'execute') as "mayAsk"`;

/** What a standby needs for a slot of its own, and whether its primary can be written to. */
async function checkStandby(context: SourceContext, facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  const id = "postgres.standby";
  const { database, writer } = context;
  if (!facts.inRecovery) {
    if (!writer.hasPrimary) return [];
    const what = "source.url leads to no standby: everything is written there, and source.primaryUrl is not used";
    return [warning(id, what, "Take primaryUrl out, or let source.url lead to the standby.")];
  }
  if (serverProblems(facts).length > 0) return [];
  const findings: Finding[] = [];
  const warn = (what: string, fix: string): void => void findings.push(warning(id, what, fix));
  const [own] = await database.rows<StandbyRow>("reading the standby's settings", STANDBY_SQL, [], signal);
  if (own?.feedback === "off")
    warn(
      "hot_standby_feedback is off: the standby gives up the slot as soon as the primary removes old rows of its catalogue",
      "On the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
    );
  if (own?.physicalSlot === "")
    warn(
      "the standby uses no slot of the primary: what hot_standby_feedback protects is lost while it is away",
      "On the primary: SELECT pg_create_physical_replication_slot('standby_1'); on the standby: ALTER SYSTEM SET primary_slot_name = 'standby_1'; SELECT pg_reload_conf();",
    );
  if (!writer.hasPrimary) {
    const what = "the source is a standby, and nothing is written: its primary is not known";
    return [...findings, ok(id, `${what}. source.primaryUrl would let Millrace publish tables and write marks there`)];
  }
  const primary = await writer.database(signal);
  const [its] = await primary.rows<PrimaryRow>("reading the primary's settings", RUNNING_SQL, [], signal);
  if (its !== undefined && its.walLevel !== "logical") {
    const fix = "On the primary: ALTER SYSTEM SET wal_level = logical; then restart it.";
    findings.push(wrong(id, `wal_level of the primary is ${its.walLevel}`, fix));
  }
  if (its?.mayAsk === false)
    warn(
      `the role may not call ${RUNNING_FUNCTION} on the primary: a first start waits for what the primary logs by itself, up to a minute`,
      `On the primary, in database ${quoteIdentifier(facts.database)}: ${grantRunning(context)}`,
    );
  return findings.length > 0
    ? findings
    : [ok(id, "the source is a standby: it is read there, and marks and the publication are written to its primary")];
}

const STANDBY_SQL = `select current_setting('hot_standby_feedback') as feedback,
  current_setting('primary_slot_name') as "physicalSlot"`;

/** What a first start would wait for, and later keeps the server's log. */
async function checkOpen(context: SourceContext, _facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  const oldest = await oldestTransaction(context, signal);
  const isOld = oldest !== undefined && (oldest.gid !== null || (oldest.seconds ?? 0) > OPEN_SECONDS_MAX);
  if (!isOld) return [];
  const waits = (await readSlot(context, signal))?.confirmed == null;
  return [
    warning(
      "postgres.transactions",
      `the oldest open transaction is ${saysWho(oldest)}: ${waits ? "the first start waits until it has ended" : "the server keeps its log from there on"}`,
      endsIt(oldest),
    ),
  ];
}

/**
 * A slot without a limit can fill the disk, and a slot with a small limit is lost in an outage: an operator should know
 * both.
 */
async function checkKeep(context: SourceContext, _facts: ServerFacts, signal: AbortSignal): Promise<Finding[]> {
  const [row] = await context.database.rows<{ keep: string; idle: string | null }>(
    "reading the server's settings",
    "select current_setting('max_slot_wal_keep_size') as keep, current_setting('idle_replication_slot_timeout', true) as idle",
    [],
    signal,
  );
  const findings: Finding[] = [];
  if (row?.keep === "-1") {
    findings.push(
      warning(
        "postgres.max_slot_wal_keep_size",
        "a slot that is not read keeps log without limit: a long outage of Millrace fills the server's disk",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '100GB'; SELECT pg_reload_conf();",
      ),
    );
  }
  if (row !== undefined && row.idle !== null && row.idle !== "0") {
    findings.push(
      warning(
        "postgres.idle_replication_slot_timeout",
        `the server gives up slots that are unused for ${row.idle}`,
        "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok("postgres.max_slot_wal_keep_size", `a slot keeps at most ${row?.keep} of log`)];
}

/** In older versions no slot survives a promotion. */
const FAILOVER_VERSION_MIN = 170_000;

interface StandbysRow {
  /** Null if our slot does not exist. */
  readonly failover: string | null;
  /** Physical slots in use: those of standbys, and of programs that store the log. */
  readonly standbys: readonly string[];
  readonly waited: string | null;
  readonly absent: string | null;
}

const STANDBYS_SQL = `
select (select to_jsonb(s) ->> 'failover' from pg_replication_slots s where slot_name = $1) as failover,
  (select coalesce(array_agg(slot_name::text order by slot_name), '{}') from pg_replication_slots
   where slot_type = 'physical' and active) as standbys,
  nullif(current_setting('synchronized_standby_slots', true), '') as waited, (${ABSENT_STANDBYS_SQL}) as absent`;

/** Whether a promoted standby would have what Millrace needs. */
async function checkFailover(
  context: SourceContext,
  facts: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  if (facts.version < FAILOVER_VERSION_MIN || facts.inRecovery) return [];
  const [row] = await context.database.rows<StandbysRow>("looking for standbys", STANDBYS_SQL, [context.slot], signal);
  const id = "postgres.failover";
  const findings: Finding[] = [];
  if (row?.failover === "false") {
    findings.push(
      warning(
        id,
        `the slot ${context.slot} is no failover slot: a standby that is promoted will not have it`,
        `While Millrace is stopped, by psql "dbname=… replication=database": ALTER_REPLICATION_SLOT ${quoteIdentifier(context.slot)} (FAILOVER true);`,
      ),
    );
  }
  if (row !== undefined && row.absent !== null && row.failover !== "false")
    findings.push(warning(id, saysAbsent(row.absent), ABSENT_FIX));
  if (row !== undefined && row.standbys.length > 0 && row.waited === null) {
    findings.push(
      warning(
        id,
        `Millrace may be sent what the standbys (slots ${row.standbys.join(", ")}) do not have yet: one that is promoted then is no way to go on`,
        `ALTER SYSTEM SET synchronized_standby_slots = ${quoteLiteral(row.standbys.join(", "))}; SELECT pg_reload_conf(); naming the slots of those standbys only that may be promoted. \`millrace explain MR2031\` says what the standby needs.`,
      ),
    );
  }
  return findings;
}

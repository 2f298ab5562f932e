import { once } from "node:events";
import { connect, createServer } from "node:net";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Config, SinkConfig } from "../../config/config.ts";
import type { Address } from "../../config/daemon-definition.ts";
import type { Finding, CheckedTable, TableName } from "../../core/contracts/connector.ts";
import { findMillraceError, type Login, type MillraceError, reasonOf, withLogin } from "../../core/errors.ts";
import { type Column, hiddenNames, namesOfTable, tableId } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import type { Rules } from "../../rules/definition.ts";
import { faultOf } from "../../rules/errors.ts";
import { noMemory } from "../../rules/former-rules.ts";
import type { NestTable } from "../../../connectors/nest/disk.ts";
import { diskRooms } from "../../core/disk-room.ts";
import { bytes } from "../../core/figures.ts";
import { nestTablesOf, resolvedDocuments } from "../../daemon/documents.ts";
import { documentTable } from "../../documents/document.ts";
import { lackOf, telemetryExtras } from "../../config/extras.ts";
import { isSelectedBy, type MemoryNow, memoryNow, noMemoryNow, openSource } from "../../daemon/ruled-source.ts";
import { lineageOf, mergedRule } from "../../rules/merged-rule.ts";
import { ruleFindings, unapproved, withFunctions } from "../../rules/with-rules.ts";
import { listenFailed } from "../../ops/errors.ts";
import { localPid } from "../../daemon/lease.ts";
import { targetsMeet } from "../../runtime/errors.ts";
import { mayShare, meetsNeighbour, targetIn } from "../../runtime/schema/targets.ts";
import { checkLog } from "./check-log.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { whileOpen } from "../opened.ts";
import { holderOf, liveHolder, readState } from "../state.ts";

/** A source or target that does not answer in this time is a finding. */
const CHECK_TIMEOUT_MS = 30_000;

export interface PlacedFinding extends Omit<Finding, "error"> {
  /** `source`, `state`, or the sink's name. */
  readonly part: string;
}

export function addCheck({ program, action }: CommandLine): void {
  program
    .command("check")
    .description("check source, sinks and state; say what would fail and how to fix it")
    .action(
      action("each", async (session) => {
        const findings = await findingsOf(await session.config());
        const ok = findings.every((finding) => finding.level !== "error");
        session.print({ ok, findings }, describe(findings, ok));
        return ok ? EXIT.done : EXIT.failed;
      }),
    );
}

/** What `check` finds; changes nothing. */
export async function findingsOf(config: Config): Promise<readonly PlacedFinding[]> {
  const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
  const wanted = wantedTables(config, signal);
  const parts: readonly CheckedPart[] = [
    { part: "source", login: config.source.login, check: () => config.source.connector.check(signal) },
    { part: "source", check: () => checkLog(config, signal) },
    { part: "rules", check: () => checkRules(config, signal) },
    { part: "documents", check: () => checkDocuments(config, signal) },
    { part: "state", login: config.state.login, check: () => checkState(config) },
    { part: "reconcile", check: async () => checkReports(config) },
    { part: "telemetry", check: async () => checkTelemetry(config) },
    { part: "admin", check: () => checkAdmin(config, signal) },
    ...config.sinks.map((sink) => {
      return { part: sink.name, login: sink.login, check: () => checkSink(sink, wanted, signal) };
    }),
  ];
  const looked = await Promise.all(
    parts.map(async ({ check, ...one }) => ({ ...one, findings: await settled(one.part, check) })),
  );
  const daemonPid = await runningPid(config);
  const findings = looked.flatMap(({ part, login, findings: found }) =>
    found.map((finding) => inOrderForDaemon(placed(part, finding, loginBeside(daemonPid, login)), daemonPid)),
  );
  return [...exposure(config), ...findings, ...(config.sinks.length === 0 ? [noSinks()] : [])];
}

interface CheckedPart {
  readonly part: string;
  readonly login?: Login | null | undefined;
  readonly check: () => Promise<readonly Finding[]>;
}

/** Only a running daemon has to be started again after a change. */
function loginBeside(daemonPid: number | null, login: Login | null | undefined): Login | null {
  return login == null || daemonPid !== null ? (login ?? null) : { ...login, note: null };
}

/** A refused login is told as the running daemon tells it. */
function placed(part: string, { error, ...finding }: Finding, login: Login | null): PlacedFinding {
  if (error === undefined) return { part, ...finding };
  const { message, hint } = withLogin(error, login);
  const what = finding.what.replace(error.message, () => message);
  return { part, ...finding, what, fix: finding.fix === (error.hint ?? null) ? (hint ?? null) : finding.fix };
}

interface WantedTables {
  /** Those that are captured now, or as soon as the role has its grants. */
  readonly tables: readonly CheckedTable[];
  /** Those that another share has. */
  readonly elsewhere: readonly TableName[];
}

/** Undefined if the source can't be asked. */
export async function wantedTables(
  { source, rules }: Pick<Config, "source" | "rules">,
  signal: AbortSignal,
): Promise<WantedTables | undefined> {
  try {
    const captured = whileOpen(source.connector.create(SILENT), ({ catalog }) => catalog.tables(signal));
    const { tables, refused, elsewhere } = await captured;
    const lacking = refused.filter(({ byPrivilege }) => byPrivilege === true);
    const known = tables.map(({ id, columns, key, dialect }) => ({
      ...namesOfTable(id),
      // Rules rename, leave out and add columns.
      ...(rules.tables.length === 0 ? { columns, key, dialect } : { hidden: hiddenIn(rules, id, columns) }),
    }));
    return {
      tables: [...known, ...lacking.map(({ id }) => namesOfTable(id))],
      elsewhere: (elsewhere?.tables ?? []).map(({ id }) => namesOfTable(id)),
    };
  } catch {
    // The source's own findings report this error.
    return undefined;
  }
}

function hiddenIn(rules: Rules, id: string, columns: readonly Column[]): readonly string[] {
  const rule = mergedRule(rules, namesOfTable(id));
  return rule === null ? [] : hiddenNames(lineageOf(rule, columns));
}

/** No findings without rules, a key for them and lists of tables. */
async function checkRules(config: Config, signal: AbortSignal): Promise<readonly Finding[]> {
  const { source, rules, sinks } = config;
  const saysNothing = rules.tables.length === 0 && rules.maskKey === null;
  if (saysNothing && [source, ...sinks].every(({ tables }) => tables.length === 0)) return [];
  const ruled = withFunctions(rules);
  const memory = await rulesMemory(config).catch(() => null);
  return await whileOpen(source.connector.create(SILENT), async (opened) => {
    const { problems, hints } = await ruleFindings(opened, ruled, memory ?? noMemory(), isSelectedBy(source), signal);
    const fit = problems.length === 0 && rules.tables.length > 0;
    const taken = unapproved(rules, source.tables);
    return [
      ...(memory === null ? [UNCOMPARED] : fit ? [FIT] : []),
      ...(taken.length === 0 ? [] : [newTables(taken)]),
      ...problems.map((problem) => findingOf(faultOf(problem))),
      ...hints.map((hint): Finding => ({ ...hint, level: "warning" })),
    ];
  });
}

const FIT: Finding = { id: "rules", level: "ok", what: "the rules fit their tables", fix: null };

function newTables(globs: readonly string[]): Finding {
  const patterns = globs.map((pattern) => JSON.stringify(pattern)).join(", ");
  return {
    id: "rules.new-tables",
    level: "ok",
    what: `new tables that ${patterns} takes in go out at once, under the rules for their own names: a copy of hidden values under other names is not recognised`,
    fix: "if they are to wait for `millrace schema approve`: `schemaChange: pause` under a key of `tables` that is such a glob",
  };
}

/** The error of the state is a finding of its own. */
const UNCOMPARED: Finding = {
  id: "rules.unknown",
  level: "warning",
  what: "whether tables and columns under rules have got other names is not known: the state, which has those of earlier times, can't be read",
  fix: "correct what is wrong with the state, and check again",
};

/** What rules have to know of earlier times: nothing if there is no state yet. */
export async function rulesMemory(config: Config): Promise<MemoryNow> {
  try {
    return await readState(config, (state) => memoryNow(config, state));
  } catch (error) {
    if (reasonOf(error) === "absent") return noMemoryNow();
    throw error;
  }
}

async function checkSink(
  sink: SinkConfig,
  wanted: Promise<WantedTables | undefined>,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found = await wanted;
  const taken = tablesFor(sink, found?.tables);
  if (taken === undefined) return await sink.connector.check(signal);
  const elsewhere = sink.documents === null ? tablesFor(sink, found?.elsewhere) : [];
  const { tables, findings } = await namedTargets(sink, taken, elsewhere ?? []);
  return [...distinct(await sink.connector.check(signal, tables)), ...findings];
}

/** Of a target that tables share, each of them says the same. */
function distinct(findings: readonly Finding[]): readonly Finding[] {
  return [...new Map(findings.map((finding) => [JSON.stringify([finding.id, finding.what]), finding])).values()];
}

interface NamedTargets {
  /** The tables for which the sink has a name. */
  readonly tables: readonly CheckedTable[];
  readonly findings: readonly Finding[];
}

/**
 * Tables for which the sink has no name, those that share a target name, so that only the first would flow: engines fold
 * case and cut names; and those whose target is another sink's. `elsewhere`: tables that another share gives to the sink.
 */
async function namedTargets(
  { name, neighbours, connector }: SinkConfig,
  tables: readonly CheckedTable[],
  elsewhere: readonly TableName[],
): Promise<NamedTargets> {
  const findings: Finding[] = [];
  const named: CheckedTable[] = [];
  const taken = new Map<string, TableName[]>();
  await whileOpen(connector.create(SILENT), (sink) => {
    for (const table of elsewhere) {
      const target = targetIn(sink, table);
      if (target !== null) taken.set(target, [...(taken.get(target) ?? []), table]);
    }
    for (const table of tables) {
      const id = tableId(table.schema, table.table);
      try {
        const target = sink.target(table);
        named.push(table);
        const others = taken.get(target) ?? [];
        taken.set(target, [...others, table]);
        const other = others.find((one) => !mayShare(sink, one, table));
        if (other !== undefined) throw targetsMeet(name, tableId(other.schema, other.table), id, target);
        const meeting = meetsNeighbour(neighbours, name, id, target);
        if (meeting !== null) throw meeting;
      } catch (error) {
        const known = findMillraceError(error);
        if (known === undefined) throw error;
        findings.push(findingOf(known));
      }
    }
  });
  return { tables: named, findings };
}

/** Of those of the source; or the documents that it takes. */
export function tablesFor(
  { tables, documents }: Pick<SinkConfig, "tables" | "documents">,
  wanted: readonly CheckedTable[] | undefined,
): readonly CheckedTable[] | undefined {
  if (documents !== null) return documents.map(documentTable);
  const selection = new TableSelection(tables);
  return wanted?.filter(({ schema, table }) => selection.matches(schema, table));
}

/** No findings without documents. */
async function checkDocuments(config: Config, signal: AbortSignal): Promise<readonly Finding[]> {
  if (config.documents.length === 0) return [];
  const memory = await rulesMemory(config).catch(() => noMemory());
  return await whileOpen(openSource(config, memory, SILENT), async (opened) => {
    const resolved = await resolvedDocuments(config, opened, signal);
    const { documents, problems } = resolved;
    const tables = await nestTablesOf(resolved, opened, signal);
    return [
      ...problems.map(({ place, message }): Finding => {
        return { id: "MR1040", level: "error", what: `${place}: ${message}`, fix: "millrace explain MR1040" };
      }),
      ...documents.map(({ name }): Finding => {
        return { id: "documents", level: "ok", what: `document ${name} fits its tables`, fix: null };
      }),
      ...(tables === null ? [] : [roomOfNest(config.nest, tables)]),
    ];
  });
}

/** The tables that take most are named. */
const NEST_TABLES_TOLD = 3;

/** Large indexes are made among the temporary files, which may be on the same disk. */
function roomOfNest(path: string, tables: readonly NestTable[]): Finding {
  const [room] = diskRooms(path);
  const needed = tables.reduce((sum, table) => sum + (table.bytes ?? 0), 0);
  const free = room?.freeBytes ?? null;
  const isTight = free !== null && free + (fileBytes(path) ?? 0) < 2 * needed;
  const most = tables
    .filter((table) => table.bytes !== null)
    .slice(0, NEST_TABLES_TOLD)
    .map(({ table, bytes: own, columns }) => `${table} ${bytes(own)} (${columns.join(", ")})`);
  const unknown = tables.flatMap(({ table, bytes: own }) => (own === null ? [table] : []));
  const parts = [
    `documents take about ${bytes(needed)} in ${path}, by the source's statistics`,
    ...(free === null ? [] : [`${bytes(free)} are free there`]),
  ];
  const what = `${parts.join("; ")}${most.length === 0 ? "" : `: ${most.join(", ")}`}`;
  const without = unknown.length === 0 ? "" : `; the source has no statistics of ${unknown.join(", ")}`;
  const fix = isTight ? "put `nest` on a disk with twice that" : null;
  return { id: "nest", level: isTight ? "warning" : "ok", what: what + without, fix };
}

function fileBytes(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.size ?? null;
}

/** The process id of this config's daemon, if it runs on this machine. */
async function runningPid(config: Config): Promise<number | null> {
  const holder = await holderOf(config);
  return holder === null ? null : localPid(holder);
}

/** If the running daemon has the file open, that is no problem. */
function inOrderForDaemon(finding: PlacedFinding, daemonPid: number | null): PlacedFinding {
  if (daemonPid === null || finding.level !== "error" || !finding.what.endsWith(`(pid ${daemonPid})`)) return finding;
  return { ...finding, level: "ok", what: `in use by the running daemon (pid ${daemonPid})`, fix: null };
}

function findingOf({ code, message, hint }: Pick<MillraceError, "code" | "message" | "hint">): Finding {
  return { id: code, level: "error", what: message, fix: hint ?? null };
}

/** Turns an error that a check throws into a finding. */
async function settled(part: string, check: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  try {
    return await check();
  } catch (error) {
    const known = findMillraceError(error);
    if (known !== undefined) return [{ ...findingOf(known), error: known }];
    if (error instanceof Error && error.name === "TimeoutError")
      return [
        {
          id: "timeout",
          level: "error",
          what: `${part} did not answer within ${CHECK_TIMEOUT_MS / 1000} s`,
          fix: "check network, firewall and address",
        },
      ];
    throw error;
  }
}

function checkTelemetry(config: Config): readonly Finding[] {
  const lack = lackOf(telemetryExtras(config));
  return lack === undefined ? [] : [findingOf(lack)];
}

async function checkState({ name, state }: Config): Promise<readonly Finding[]> {
  const path = state.url.startsWith("sqlite:") ? state.url.slice("sqlite:".length) : null;
  const called = `the state ${path ?? "on Postgres"}`;
  const fine = (what: string): readonly Finding[] => [{ id: "state", level: "ok", what, fix: null }];
  try {
    const holder = await readState({ name, state }, liveHolder);
    return fine(holder === null ? `${called} is in order` : `a daemon is running: ${holder}`);
  } catch (error) {
    if (reasonOf(error) !== "absent") throw error;
    if (path === null) return fine(`${called} is made at the first start`);
    return [checkFolder("state", called, "created", dirname(path))];
  }
}

function checkReports({ reconcile: { reports } }: Config): readonly Finding[] {
  return reports === null
    ? []
    : [checkFolder("MR1005", `the folder of reports ${reports.path}`, "written to", reports.path)];
}

/** Whether `what` can be created or written in a folder that may not exist yet. */
function checkFolder(id: string, what: string, done: string, wanted: string): Finding {
  let folder = wanted;
  while (!existsSync(folder)) folder = dirname(folder);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    if (!statSync(folder).isDirectory()) throw new Error("not a folder");
    return { id, level: "ok", what: `${what} will be ${done}`, fix: null };
  } catch {
    // The finding only tells whether the folder is writable.
    return { id, level: "error", what: `${what} can't be ${done}`, fix: `chmod u+wx '${folder}'` };
  }
}

/** Whether the daemon could listen there. Its port is not taken meanwhile: another `check` may look at the same moment. */
async function checkAdmin(config: Config, signal: AbortSignal): Promise<readonly Finding[]> {
  const { listen } = config.admin;
  if (listen === null || (await holderOf(config)) !== null) return [];
  try {
    const server = createServer().listen({ host: listen.host, port: 0 });
    await once(server, "listening", { signal });
    server.close();
  } catch (error) {
    throw listenFailed(listen, error);
  }
  if (await isListenedAt(listen, signal)) throw listenFailed(listen, { code: "EADDRINUSE" });
  return [{ id: "admin", level: "ok", what: `admin.listen: ${listen.host}:${listen.port} is free`, fix: null }];
}

export async function isListenedAt({ host, port }: Address, signal: AbortSignal): Promise<boolean> {
  const socket = connect({ host, port, signal });
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

function exposure({ exposure: found }: Config): readonly PlacedFinding[] {
  return found === null ? [] : [{ part: "config", id: "config_mode", level: "warning", ...found }];
}

function noSinks(): PlacedFinding {
  const fix = "name a sink in millrace.yaml";
  return {
    part: "sinks",
    id: "sinks",
    level: "warning",
    what: "there is no sink: changes are read and written nowhere",
    fix,
  };
}

const MARKS = { ok: "ok     ", warning: "warning", error: "ERROR  " } as const;

function describe(findings: readonly PlacedFinding[], ok: boolean): string {
  return [...findingLines(findings), "", ok ? "ready to run" : "would fail: see above"].join("\n");
}

/** For people, each with its fix. */
export function findingLines(findings: readonly PlacedFinding[]): readonly string[] {
  return findings.flatMap(({ part, level, what, fix }) => [
    `${MARKS[level]} ${part}: ${what}`,
    ...(fix === null || level === "ok" ? [] : [`        ${fix.replaceAll("\n", "\n        ")}`]),
  ]);
}

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Config, SinkConfig } from "../../config/config.ts";
import type { Address } from "../../config/definition.ts";
import type { Finding, StateAddress, TableName } from "../../core/contracts/connector.ts";
import { findMillraceError, reasonOf } from "../../core/errors.ts";
import { namesOfTable } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { faultOf } from "../../rules/errors.ts";
import { noMemory, type RuleMemory } from "../../rules/former-rules.ts";
import { isSelectedBy, memoryOf } from "../../daemon/ruled-source.ts";
import { ruleFindings } from "../../rules/with-rules.ts";
import { listenFailed } from "../../ops/errors.ts";
import { localPid } from "../../daemon/holder.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { openState } from "../../state/open.ts";
import { checkLog } from "./check-log.ts";
import { namedTargets } from "./check-targets.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { holderOf, readState } from "../read-state.ts";

/** A source or target that does not answer in this time is a finding. */
const CHECK_TIMEOUT_MS = 30_000;

interface PlacedFinding extends Finding {
  /** `source`, `state`, or the sink's name. */
  readonly part: string;
}

export function addCheck({ program, action }: CommandLine): void {
  program
    .command("check")
    .description("check source, sinks and state; say what would fail and how to fix it")
    .action(
      action(async (session) => {
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
  const parts: readonly { readonly part: string; readonly check: () => Promise<readonly Finding[]> }[] = [
    { part: "source", check: () => config.source.connector.check(signal) },
    { part: "source", check: () => checkLog(config, signal) },
    { part: "rules", check: () => checkRules(config, signal) },
    { part: "state", check: () => checkState(config) },
    { part: "reconcile", check: async () => checkReports(config) },
    { part: "admin", check: () => checkAdmin(config, signal) },
    ...config.sinks.map((sink) => ({ part: sink.name, check: () => checkSink(sink, wanted, signal) })),
  ];
  const looked = await Promise.all(
    parts.map(async ({ part, check }) => (await settled(part, check)).map((finding) => ({ part, ...finding }))),
  );
  const daemonPid = await runningPid(config);
  const findings = looked.flat().map((finding) => inOrderForDaemon(finding, daemonPid));
  return [...exposure(config), ...findings, ...(config.sinks.length === 0 ? [noSinks()] : [])];
}

/** The tables that are captured now, or as soon as the role has its grants. Undefined if the source can't be asked. */
export async function wantedTables(
  { source }: Pick<Config, "source">,
  signal: AbortSignal,
): Promise<readonly TableName[] | undefined> {
  try {
    const opened = await source.connector.create(SILENT);
    try {
      const { tables, refused } = await opened.catalog.tables(signal);
      const lacking = refused.filter(({ byPrivilege }) => byPrivilege === true);
      return [...tables, ...lacking].map(({ id }) => namesOfTable(id));
    } finally {
      await opened.close();
    }
  } catch {
    // The source's own findings report this error.
    return undefined;
  }
}

/** No findings without rules and lists of tables. */
async function checkRules(config: Config, signal: AbortSignal): Promise<readonly Finding[]> {
  const { source, rules, sinks } = config;
  if (rules.tables.length === 0 && [source, ...sinks].every(({ tables }) => tables.length === 0)) return [];
  const opened = await source.connector.create(SILENT);
  try {
    const { problems, hints } = await ruleFindings(opened, rules, await memoryIn(config), isSelectedBy(source), signal);
    const fit: Finding = { id: "rules", level: "ok", what: "the rules fit their tables", fix: null };
    return [
      ...(problems.length === 0 && rules.tables.length > 0 ? [fit] : []),
      ...problems.map((problem): Finding => {
        const { code, message, hint } = faultOf(problem);
        return { id: code, level: "error", what: message, fix: hint };
      }),
      ...hints.map((hint): Finding => ({ ...hint, level: "warning" })),
    ];
  } finally {
    await opened.close();
  }
}

/** Errors of the state are a finding of its own. */
async function memoryIn(config: Config): Promise<RuleMemory> {
  if (isFile(config.state) && !existsSync(pathOf(config.state))) return noMemory();
  try {
    return await readState(config, (state) => memoryOf(config, state));
  } catch {
    return noMemory();
  }
}

async function checkSink(
  sink: SinkConfig,
  wanted: Promise<readonly TableName[] | undefined>,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const selection = new TableSelection(sink.tables);
  const taken = (await wanted)?.filter(({ schema, table }) => selection.matches(schema, table));
  if (taken === undefined) return await sink.connector.check(signal);
  const { tables, findings } = await namedTargets(sink, taken);
  return [...(await sink.connector.check(signal, tables)), ...findings];
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

/** Turns an error that a check throws into a finding. */
async function settled(part: string, check: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  try {
    return await check();
  } catch (error) {
    const known = findMillraceError(error);
    if (known !== undefined) return [{ id: known.code, level: "error", what: known.message, fix: known.hint ?? null }];
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

async function checkState(config: Config): Promise<readonly Finding[]> {
  const { state } = config;
  const path = isFile(state) ? pathOf(state) : "on Postgres";
  if (isFile(state) && !existsSync(path)) return [checkFolder("state", `the state ${path}`, "created", dirname(path))];
  const store = await openOrOld(config);
  if (store === "old") {
    const what = `the state ${path} is an older version's: the start brings it up to date`;
    return [{ id: "state", level: "ok", what, fix: null }];
  }
  if (store === null)
    return [{ id: "state", level: "ok", what: `the state ${path} is made at the first start`, fix: null }];
  try {
    const lease = await store.lease.current();
    const what = lease === null ? `the state ${path} is in order` : `a daemon is running: ${lease.holder}`;
    return [{ id: "state", level: "ok", what, fix: null }];
  } finally {
    await store.close();
  }
}

function isFile({ url }: StateAddress): boolean {
  return url.startsWith("sqlite:");
}

function pathOf({ url }: StateAddress): string {
  return url.slice("sqlite:".length);
}

async function openOrOld({ name, state }: Config): Promise<StateStore | "old" | null> {
  try {
    return isFile(state) ? await openState(state, { name, readOnly: true }) : await openOrMade(state, name);
  } catch (error) {
    if (reasonOf(error) === "older") return "old";
    throw error;
  }
}

/** Null if the server has nothing under this name yet. */
async function openOrMade(state: StateAddress, name: string): Promise<StateStore | null> {
  try {
    return await openState(state, { name, readOnly: true });
  } catch (error) {
    if (reasonOf(error) === "absent") return null;
    throw error;
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
  if (await answers(listen, signal)) throw listenFailed(listen, { code: "EADDRINUSE" });
  return [{ id: "admin", level: "ok", what: `admin.listen: ${listen.host}:${listen.port} is free`, fix: null }];
}

async function answers({ host, port }: Address, signal: AbortSignal): Promise<boolean> {
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
  const lines = findings.flatMap(({ part, level, what, fix }) => [
    `${MARKS[level]} ${part}: ${what}`,
    ...(fix === null || level === "ok" ? [] : [`        ${fix.replaceAll("\n", "\n        ")}`]),
  ]);
  return [...lines, "", ok ? "ready to run" : "would fail: see above"].join("\n");
}

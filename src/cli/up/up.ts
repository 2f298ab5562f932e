/**
 * From a database's URL to rows in a target, in one command. It has no way of its own to do anything:
 *
 *   no config file   ─► grants with --admin-url ─► init ─┐
 *   a config file    ─► does it fit the command line? ───┴─► check ─► the daemon of `run` ─► first rows
 *
 * A URL that leads nowhere leaves no file behind; what `check` finds leaves the file, for the next `up`.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Bound } from "../../config/connectors.ts";
import type { Config } from "../../config/config.ts";
import { type Address, topDefinition } from "../../config/daemon-definition.ts";
import { scopeOf } from "../../core/clock.ts";
import type { CapturedTables } from "../../core/contracts/catalog.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import { findMillraceError, isAborted, MillraceError, reasonOf } from "../../core/errors.ts";
import { invariant } from "../../core/invariant.ts";
import { shellWord } from "../../core/shell-word.ts";
import { keepHeapSmall } from "../../ops/heap.ts";
import { findingLines, findingsOf, isListenedAt } from "../check/check.ts";
import type { CommandLine } from "../command-line.ts";
import { asDaemon, runOne } from "../commands/run.ts";
import { DaemonClient } from "../daemon-client.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { placed, scriptsText, sourceGrants } from "../grants/grants.ts";
import { refusedLines } from "../init/init-file.ts";
import { sinkByUrl, sourceByUrl } from "../init/init-urls.ts";
import {
  boundSource,
  lookAt,
  SINK_HELP,
  wantedConfig,
  type WantedConfig,
  writeConfig,
  writtenLines,
} from "../init/init.ts";
import type { Options } from "../options.ts";
import type { Session } from "../session.ts";
import { expectFree, readState } from "../state.ts";
import { Progress } from "./progress.ts";
import { type Sample, sampleDocument, sampleOf, sampleText } from "./first-rows.ts";

const GRANT_TIMEOUT_MS = 30_000;
/** How often the bar moves. */
const LOOK_MS = 200;
const WAIT_MS = 10_000;
/** How far from the usual port a free one is looked for. */
const PORTS_TRIED = 50;

export function addUp({ program, action }: CommandLine): void {
  program
    .command("up [url]")
    .description("from a database's URL to rows in a target: init, check, the first copy, and on as the daemon")
    .option(
      "--sink <url...>",
      `${SINK_HELP}; default: a file beside the config, DuckDB's if that is installed, else SQLite's`,
    )
    .option("--tables <globs...>", "schema.table globs; default: every user table with a usable key")
    .option("--name <name>", "the daemon's name; default: from the database's name")
    .option("--admin-url <url>", "a superuser's URL of the source: runs the grants that `millrace grants` prints")
    .action(action("none", (session, options, [url]) => up(session, options, url ?? null)));
}

async function up(session: Session, options: Options, url: string | null): Promise<ExitCode> {
  keepHeapSmall();
  const administrator = options.text("--admin-url");
  for (const one of [url, administrator]) if (one !== null) session.secrets.addFromUrl(one);
  const isNew = !existsSync(resolve(session.configFile));
  if (isNew) await begin(session, options, url, administrator);
  else await expectFit(session, options, url);
  const whole = await session.whole();
  if (whole.shares !== null)
    throw cliError("MR1110", "`up` starts a daemon that has all tables; with `source.shares`: millrace run");
  await readState(whole, expectFree).catch((error: unknown) => {
    // What else is wrong with the state is told below.
    if (reasonOf(error) === "held") throw error;
  });
  if (whole.exposure !== null) session.log.warn({ fix: whole.exposure.fix }, whole.exposure.what);
  if (!isNew && administrator !== null) await grant(session, whole.source, administrator);
  const config = isNew ? whole : await withFreePort(session, whole);
  if (!(await isReady(session, config))) return EXIT.failed;
  return await asDaemon(session, (own, signal) => follow(own, config, signal));
}

/** Results come in parts, which are text for people; machines get one document at the end. */
function tell(session: Session, ...lines: readonly string[]): void {
  if (!session.json && lines.length > 0) session.print({}, lines.join("\n"));
}

async function begin(
  session: Session,
  options: Options,
  url: string | null,
  administrator: string | null,
): Promise<void> {
  const example = { hint: `${commandOf()} up postgres://user@host/database` };
  if (url === null) throw cliError("MR1110", "there is no config file yet: give the URL of the source", example);
  const wanted = await wantedConfig(session, options, url);
  const source = { name: wanted.name, url, tables: wanted.tables };
  if (administrator !== null) {
    const connector = await boundSource(session, source);
    await grant(session, { kind: wanted.kind, connector }, administrator);
  }
  const found = await lookAt(session, wanted).catch(async (error: unknown) => {
    const reason = findMillraceError(error)?.reason;
    if (reason === "login" || reason === "privilege") await showGrants(session, source);
    throw error;
  });
  if (found === null || found.tables.length === 0) throw await nothingToFollow(session, source, found);
  const listen = await freePort();
  tell(session, ...writtenLines(writeConfig(session, wanted, found, listen)));
  if (listen !== null) tell(session, `the usual port is taken: the file says ${listen} for the dashboard`);
}

type NamedSource = Pick<WantedConfig, "name" | "tables"> & { readonly url: string };

async function showGrants(session: Session, source: NamedSource): Promise<void> {
  const scripts = await sourceGrants(session, source);
  tell(session, "what the login needs:", scriptsText(scripts), "", GRANTS_NEXT, "");
}

const GRANTS_NEXT = "Run that, or give `millrace up` the URL of one who may: --admin-url URL";

async function nothingToFollow(session: Session, source: NamedSource, found: CapturedTables | null): Promise<Error> {
  const refused = found?.refused ?? [];
  if (refused.some(({ byPrivilege }) => byPrivilege === true)) await showGrants(session, source);
  const what =
    source.tables.length > 0
      ? `no table that can be followed matches --tables`
      : "the database has no table that can be followed";
  const why = refused.length === 0 ? [] : refusedLines(found!);
  return cliError("MR1143", [what, ...why].join("\n"));
}

/** Its scripts are shown, and run with the login of `url`. */
async function grant(
  session: Session,
  { kind, connector }: { readonly kind: string; readonly connector: Bound<Source> },
  url: string,
): Promise<void> {
  const named = await sourceByUrl("--admin-url", url);
  if (named.kind !== kind || connector.grantBy === undefined)
    throw cliError("MR1110", `--admin-url: expected the URL of the source's server, which is of kind ${kind}`);
  const scripts = await connector.grantBy(url, AbortSignal.timeout(GRANT_TIMEOUT_MS)).catch((error: unknown) => {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    const { code, hint } = known;
    throw new MillraceError({ code, kind: "fatal", message: `--admin-url: ${known.message}`, hint, cause: error });
  });
  tell(session, scriptsText(placed("source", kind, scripts)), "", "these grants were run, by --admin-url", "");
}

/** A config that is there is used as it is, if it is about what the command line names. */
async function expectFit(session: Session, options: Options, url: string | null): Promise<void> {
  const { name, file, source, sinks } = await session.whole();
  const refused = (what: string) => cliError("MR1142", `${file} ${what}`);
  const named = url === null ? null : await sourceByUrl("the source", url);
  if (named !== null) {
    const fit = named.kind === source.kind ? source.connector.fit(named.keys) : "other";
    if (fit === "other") throw refused("follows another source than this URL, or with another login");
    if (fit === "password")
      throw cliError("MR1142", `${file} has another password for the source than this URL`, {
        hint: `Put the new password where the file has it${source.login.note === null ? "" : ` (${source.login.note})`}, then run \`${commandOf()} up\`.`,
      });
  }
  for (const given of options.texts("--sink")) {
    session.secrets.addFromUrl(given);
    const { kind, keys } = await sinkByUrl("--sink", given);
    if (!sinks.some((sink) => sink.kind === kind && sink.connector.fit(keys) !== "other"))
      throw refused(`has no such sink of kind ${kind}: add it to the file`);
  }
  const tables = options.tableGlobs();
  if (tables.length > 0 && tables.toSorted().join("\n") !== source.tables.toSorted().join("\n"))
    throw refused("selects other tables (`source.tables`)");
  const wanted = options.text("--name");
  if (wanted !== null && wanted !== name) throw refused(`is of the name ${name}`);
}

/** Of a file that names none. */
function usualAddress(): Address {
  const { listen } = topDefinition.shape.admin.parse({});
  invariant(listen !== false, "the daemon listens by default");
  return listen;
}

/** As the file has it; null: the usual one is free. */
async function freePort(usual = usualAddress()): Promise<string | null> {
  const signal = AbortSignal.timeout(GRANT_TIMEOUT_MS);
  for (let port = usual.port; port < Math.min(usual.port + PORTS_TRIED, 65_536); port++)
    if (!(await isListenedAt({ ...usual, port }, signal))) return port === usual.port ? null : `${usual.host}:${port}`;
  return null;
}

/** For this run alone: the file stays as it is. */
async function withFreePort(session: Session, config: Config): Promise<Config> {
  const { listen } = config.admin;
  const free = listen === null ? null : await freePort(listen);
  if (listen === null || free === null) return config;
  tell(session, `${listen.host}:${listen.port} is taken: the dashboard is at ${free} this time (admin.listen)`);
  const port = Number(free.slice(free.lastIndexOf(":") + 1));
  return { ...config, admin: { ...config.admin, listen: { ...listen, port } } };
}

/** Shows what `check` finds, and the grants if they would help. */
async function isReady(session: Session, config: Config): Promise<boolean> {
  const findings = await findingsOf(config);
  tell(session, ...findingLines(findings.filter(({ level }) => level !== "ok")));
  const wrong = findings.filter(({ level }) => level === "error");
  if (wrong.length === 0) return true;
  if (wrong.some(({ byPrivilege }) => byPrivilege === true)) {
    const scripts = await config.source.connector.grants(AbortSignal.timeout(GRANT_TIMEOUT_MS));
    tell(
      session,
      "",
      "all that the login needs:",
      scriptsText(placed("source", config.source.kind, scripts)),
      "",
      GRANTS_NEXT,
    );
  }
  const next = `nothing was started: correct what is said above, then run \`${commandOf()} up\` again`;
  session.print({ ok: false, findings }, `\n${next}`);
  return false;
}

/** The daemon, and beside it what a person sees of its first copy. */
async function follow(session: Session, config: Config, signal: AbortSignal): Promise<void> {
  const { signal: until, end } = scopeOf(signal);
  const terminal = process.stderr.isTTY && !session.json ? process.stderr : null;
  using progress = new Progress(terminal, (line) => tell(session, line));
  progress.show(undefined);
  const running = runOne(session.ofLog(progress.over(session.log)), signal, config).finally(() => end());
  const showing = show(session, config, progress, until).catch((error: unknown) => {
    progress[Symbol.dispose]();
    if (!until.aborted && !isAborted(error)) session.log.warn({ error }, "the first rows can't be shown");
  });
  await Promise.all([running, showing]);
  tell(session, `stopped; \`${commandOf(session.configFile)} run\` goes on from here`);
}

async function show(session: Session, config: Config, progress: Progress, signal: AbortSignal): Promise<void> {
  const status = await untilCopied(new DaemonClient(config.state), progress, signal);
  const away = status.sinks.flatMap(({ name, error }) => (error === null ? [] : [name]));
  const sample = await sampleOf(config, { command: commandOf(session.configFile), away }, signal);
  progress[Symbol.dispose]();
  const { listen } = config.admin;
  const dashboard =
    listen === null ? null : `http://${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}/`;
  const document = { ok: true, file: config.file, ...sampleDocument(sample), dashboard };
  session.print(document, shownText(sample, status, dashboard));
}

function shownText(sample: Sample, { sinks }: StatusDocument, dashboard: string | null): string {
  const away = sinks.flatMap(({ name, error }) =>
    error === null ? [] : [`${name} is not there yet: ${error.code} ${error.message}`],
  );
  return [
    "",
    sampleText(sample, process.stdout.columns),
    ...away,
    ...(dashboard === null ? [] : ["", `dashboard: ${dashboard}`]),
    "",
    "following every change; Ctrl-C stops",
  ].join("\n");
}

/** Until every sink has what was committed at the source when it could first be asked, or can't have it for now. */
async function untilCopied(client: DaemonClient, progress: Progress, signal: AbortSignal): Promise<StatusDocument> {
  let isReached = false;
  const reaching = async (): Promise<void> => {
    while (!isReached && !signal.aborted) {
      const body = { timeoutMs: WAIT_MS };
      const answer = await client.ask<{ reached: boolean }>("POST", "/api/v1/wait", body, 2 * WAIT_MS);
      isReached = answer?.reached ?? false;
      if (answer === undefined) await sleep(LOOK_MS, undefined, { signal });
    }
  };
  const reached = reaching();
  // A failure is met below.
  reached.catch(() => undefined);
  for (;;) {
    const status = await client.ask<StatusDocument>("GET", "/api/v1/status");
    if (status !== undefined && (isReached || isAsFarAsItGoes(status))) return status;
    progress.show(status);
    await Promise.race([reached, sleep(LOOK_MS, undefined, { signal })]);
  }
}

function isAsFarAsItGoes({ phase, source, sinks }: StatusDocument): boolean {
  const hasFailed = sinks.some(({ error }) => error !== null);
  return (
    hasFailed &&
    phase === "streaming" &&
    source.copy === null &&
    sinks.every(({ state, error }) => state === "streaming" || error !== null)
  );
}

/** How this program is called. */
function commandOf(configFile = "millrace.yaml"): string {
  const program = process.env["npm_command"] === "exec" ? "npx millrace" : "millrace";
  return configFile === "millrace.yaml" ? program : `${program} -c ${shellWord(configFile)}`;
}

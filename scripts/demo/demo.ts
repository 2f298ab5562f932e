/**
 * `npm run demo`: real servers, a shop, Millrace as a separate process, a writer that never rests, a SIGKILL half-way,
 * and at the end a comparison of every table in every sink with the source. Exit code 0 only if all are equal.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isEqual, type SinkAddress } from "../../test/support/compare/compare.ts";
import type { GuardedService } from "../services/processes/guarded.ts";
import { createCrew, type Member } from "./crew.ts";
import { daemonLog, millrace, startDaemon } from "./daemon.ts";
import { Live } from "./live.ts";
import { type DemoOptions, readOptions, USAGE } from "./options.ts";
import { compareAll, describeResults, grouped } from "./results.ts";
import { announce, MissingServerError, serversFor, startServers, type Servers } from "./servers.ts";
import { createShop, type Shop, type ShopSize, TABLES } from "./shop.ts";
import type { DemoSink } from "./sinks.ts";
import { shopOn } from "./sources.ts";
import { startWriter, type Writer } from "./writer.ts";

const TRANSACTIONS_PER_S = 100;
const TRANSACTIONS_PER_S_KEPT = 5;
const DOWN_MS = 1_500;
const WAIT = "120s";

interface Stage {
  readonly servers: Servers;
  readonly shop: Shop;
  readonly size: ShopSize;
  readonly crew: readonly Member[];
  readonly sinks: readonly DemoSink[];
}

interface Running {
  readonly member: Member;
  readonly daemon: GuardedService;
}

function say(text = ""): void {
  process.stdout.write(`${text}\n`);
}

function parsed(): DemoOptions {
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return process.exit(2);
  }
  if (options !== "help") return options;
  process.stdout.write(USAGE);
  return process.exit(0);
}

/** Everything that was started; disposed of in reverse order. */
const stack = new AsyncDisposableStack();

async function demo(options: DemoOptions): Promise<boolean> {
  const startedAt = performance.now();
  const stage = await prepare(options);
  const { crew, sinks, servers, shop, size } = stage;
  const running = await startAll(crew);
  const writer = stack.use(await startWriter(shop, servers.source.url, size, TRANSACTIONS_PER_S));
  say(`Millrace runs (${pids(running)}) and copies the shop while the writer changes it.`);
  await watch(options, running, writer, sinks);

  const { transactions, rows } = writer.counts;
  await writer.stop();
  say(`The writer has stopped after ${grouped(transactions)} transactions with ${grouped(rows)} changed rows.`);
  const waitedFrom = performance.now();
  for (const { member } of running.filter(({ member: { sinks: own } }) => own.length > 0)) {
    if (!(await isUpToDate(member.folder))) return false;
  }
  const who = running.length === 1 ? "the daemon" : "the daemons";
  say(`It took ${secondsSince(waitedFrom)} s. Stopping ${who} and comparing all rows and columns.`);
  // Who captures answers the others until they have ended.
  for (const { daemon } of running.toReversed()) {
    await daemon.stop();
    if (daemon.lastExit?.code !== 0) throw new Error(`a daemon ended with ${JSON.stringify(daemon.lastExit)}`);
  }

  const results = await compareAll(servers.source, sinks);
  say(describeResults(results));
  const equal = results.filter(isEqual).length;
  say(`${equal} of ${results.length} equal, after one SIGKILL; ${secondsSince(startedAt)} s in all.`);
  if (options.keep) await keep(stage, running);
  return equal === results.length;
}

async function startAll(crew: readonly Member[]): Promise<readonly Running[]> {
  const running: Running[] = [];
  for (const member of crew) {
    running.push({ member, daemon: stack.use(await startDaemon(member)) });
    // The others ask it.
    if (member.job === "captures") await millrace(member.folder, "wait", "--timeout", WAIT);
  }
  return running;
}

function pids(running: readonly Running[]): string {
  if (running.length === 1) return `pid ${running[0]?.daemon.pid}`;
  return running.map(({ member: { job }, daemon }) => `pid ${daemon.pid} ${job}`).join(", ");
}

async function isUpToDate(folder: string): Promise<boolean> {
  say(`$ millrace wait --timeout ${WAIT}`);
  const waited = await millrace(folder, "wait", "--timeout", WAIT);
  say(waited.output);
  if (waited.isDone) return true;
  say((await millrace(folder, "status")).output);
  say(`The end of the daemon's log:\n${daemonLog(folder)}`);
  return false;
}

async function prepare(options: DemoOptions): Promise<Stage> {
  const { source, without, rows } = options;
  const shop = shopOn(source);
  const names = serversFor(options);
  say("Servers:");
  await announce(names, say);
  const startedAt = performance.now();
  const filled = Promise.withResolvers<ShopSize>();
  const servers = stack.use(
    await startServers(source, names, async (url) => filled.resolve(await seed(shop, url, rows))),
  );
  const size = await filled.promise;
  say(`All are up after ${secondsSince(startedAt)} s.`);
  const folder = mkdtempSync(join(tmpdir(), "millrace-demo-"));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const crew = await createCrew(servers, folder, without);
  const checked = await millrace(crew[0]!.folder, "check");
  if (!checked.isDone) throw new Error(`millrace check:\n${checked.output}`);
  return { servers, shop, size, crew, sinks: crew.flatMap(({ sinks }) => sinks) };
}

async function seed(shop: Shop, url: string, rows: number): Promise<ShopSize> {
  const startedAt = performance.now();
  const { rowCount, size } = await createShop(shop, url, rows);
  const database = new URL(url).pathname.slice(1);
  say(
    `The database ${database} has ${grouped(rowCount)} rows in ${TABLES.length} tables (${secondsSince(startedAt)} s).`,
  );
  return size;
}

/** Shows the progress while the writer works, and kills a daemon that applies half-way. */
async function watch(
  { seconds }: DemoOptions,
  running: readonly Running[],
  writer: Writer,
  sinks: readonly DemoSink[],
): Promise<void> {
  const urls = running.map(({ daemon: { url } }) => url);
  const live = new Live({ urls, writer, sinks: sinks.map(({ name }) => name), seconds });
  const { daemon } = running.find(({ member }) => member.job !== "captures")!;
  const killAt = seconds / 2;
  let wasKilled = false;
  while (live.elapsedSeconds < seconds) {
    await live.refresh();
    await sleep(1_000);
    const ended = running.find((one) => one.daemon.pid === undefined);
    if (ended !== undefined) throw new Error(`a daemon ended by itself:\n${daemonLog(ended.member.folder)}`);
    if (wasKilled || live.elapsedSeconds < killAt) continue;
    wasKilled = true;
    live.say(`kill -9 ${daemon.pid}`);
    await daemon.kill();
    await sleep(DOWN_MS);
    await daemon.start();
    live.say(`Started again after ${DOWN_MS / 1_000} s, in which the writer went on (pid ${daemon.pid}).`);
  }
  await live.refresh();
  live.end();
}

async function keep({ servers, shop, size, sinks }: Stage, running: readonly Running[]): Promise<void> {
  for (const { daemon } of running) await daemon.start();
  const { member, daemon } = running.at(-1)!;
  stack.use(await startWriter(shop, servers.source.url, size, TRANSACTIONS_PER_S_KEPT));
  const addresses = sinks.map(({ name, address }) => [name, placeOf(address)] as const);
  say("\nEverything is up again, with a slow writer, until Ctrl-C:");
  for (const [name, address] of [["source", servers.source.url], ...addresses, ["admin", daemon.url]] as const)
    say(`  ${name.padEnd(10)} ${address}`);
  say(`\nTry, in this checkout:\n  export MILLRACE_CONFIG=${member.folder}/millrace.yaml`);
  for (const line of [
    "npx millrace status",
    "npx millrace tail --limit 3",
    `npx millrace pause --sink ${member.sinks[0]?.name}`,
  ])
    say(`  ${line}`);
  say(`  curl -s http://127.0.0.1:${member.adminPort}/metrics | grep millrace_`);
  await new Promise(() => setInterval(() => {}, 60_000));
}

function placeOf(address: SinkAddress): string {
  if (address.kind === "kafka") return address.broker;
  if (address.kind === "ducklake") return address.catalog;
  return "url" in address ? address.url : address.path;
}

function secondsSince(startedAt: number): string {
  return ((performance.now() - startedAt) / 1_000).toFixed(1);
}

const options = parsed();
const stopped = Promise.withResolvers<"stopped">();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => stopped.resolve("stopped"));

let exitCode = 1;
try {
  const outcome = await Promise.race([demo(options), stopped.promise]);
  exitCode = outcome === "stopped" ? 130 : outcome ? 0 : 1;
} catch (error) {
  const isKnown = error instanceof MissingServerError;
  process.stderr.write(`${isKnown ? error.message : String(error instanceof Error ? error.stack : error)}\n`);
}
await stack.disposeAsync();
// This also ends servers that were just starting when the demo was stopped: see scripts/services/processes/guard.ts.
process.exit(exitCode);

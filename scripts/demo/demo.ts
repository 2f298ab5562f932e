/**
 * `npm run demo`: real servers, a shop, Millrace as a separate process, a writer that never rests, a SIGKILL half-way,
 * and at the end a comparison of every table in every sink with the source. Exit code 0 only if all are equal.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isEqual, type SinkAddress } from "../../test/support/compare/compare.ts";
import { freePort } from "../services/port.ts";
import type { GuardedService } from "../services/guarded.ts";
import { daemonLog, millrace, startDaemon } from "./daemon.ts";
import { Live } from "./live.ts";
import { type DemoOptions, readOptions, USAGE } from "./options.ts";
import { compareAll, describeResults, grouped } from "./results.ts";
import { announce, MissingServerError, serversFor, startServers, type Servers } from "./servers.ts";
import { createShop, type Shop, type ShopSize, TABLES } from "./shop.ts";
import { configText, type DemoSink, sinksOf } from "./sinks.ts";
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
  readonly folder: string;
  readonly adminPort: number;
  readonly sinks: readonly DemoSink[];
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
  const { folder, adminPort, sinks, servers, shop, size } = stage;
  const daemon = stack.use(await startDaemon({ folder, adminPort }));
  const writer = stack.use(await startWriter(shop, servers.source.url, size, TRANSACTIONS_PER_S));
  say(`Millrace runs (pid ${daemon.pid}) and copies the shop while the writer changes it.`);
  await watch(options, daemon, writer, sinks, folder);

  const { transactions, rows } = writer.counts;
  await writer.stop();
  say(`The writer has stopped after ${grouped(transactions)} transactions with ${grouped(rows)} changed rows.`);
  const waitedFrom = performance.now();
  say(`$ millrace wait --timeout ${WAIT}`);
  const waited = await millrace(folder, "wait", "--timeout", WAIT);
  say(waited.output);
  if (!waited.isDone) {
    say((await millrace(folder, "status")).output);
    say(`The end of the daemon's log:\n${daemonLog(folder)}`);
    return false;
  }
  say(`It took ${secondsSince(waitedFrom)} s. Stopping the daemon and comparing all rows and columns.`);
  await daemon.stop();
  if (daemon.lastExit?.code !== 0) throw new Error(`the daemon ended with ${JSON.stringify(daemon.lastExit)}`);

  const results = await compareAll(servers.source, sinks);
  say(describeResults(results));
  const equal = results.filter(isEqual).length;
  say(`${equal} of ${results.length} equal, after one SIGKILL; ${secondsSince(startedAt)} s in all.`);
  if (options.keep) await keep(stage, daemon);
  return equal === results.length;
}

async function prepare({ source, without, rows }: DemoOptions): Promise<Stage> {
  const shop = shopOn(source);
  const names = serversFor(source, without);
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
  const adminPort = await freePort();
  const sinks = sinksOf(servers, folder, without);
  writeFileSync(join(folder, "millrace.yaml"), configText(servers, sinks, adminPort));
  const checked = await millrace(folder, "check");
  if (!checked.isDone) throw new Error(`millrace check:\n${checked.output}`);
  return { servers, shop, size, folder, adminPort, sinks };
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

/** Shows the progress while the writer works, and kills the daemon half-way. */
async function watch(
  { seconds }: DemoOptions,
  daemon: GuardedService,
  writer: Writer,
  sinks: readonly DemoSink[],
  folder: string,
): Promise<void> {
  const live = new Live({ url: daemon.url, writer, sinks: sinks.map(({ name }) => name), seconds });
  const killAt = seconds / 2;
  let wasKilled = false;
  while (live.elapsedSeconds < seconds) {
    await live.refresh();
    await sleep(1_000);
    if (daemon.pid === undefined) throw new Error(`the daemon ended by itself:\n${daemonLog(folder)}`);
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

async function keep({ servers, shop, size, folder, adminPort, sinks }: Stage, daemon: GuardedService): Promise<void> {
  await daemon.start();
  stack.use(await startWriter(shop, servers.source.url, size, TRANSACTIONS_PER_S_KEPT));
  const addresses = sinks.map(({ name, address }) => [name, placeOf(address)] as const);
  say("\nEverything is up again, with a slow writer, until Ctrl-C:");
  for (const [name, address] of [["source", servers.source.url], ...addresses, ["admin", daemon.url]] as const)
    say(`  ${name.padEnd(10)} ${address}`);
  say(`\nTry, in this checkout:\n  export MILLRACE_CONFIG=${folder}/millrace.yaml`);
  for (const line of ["npx millrace status", "npx millrace tail --limit 3", "npx millrace pause --sink warehouse"])
    say(`  ${line}`);
  say(`  curl -s http://127.0.0.1:${adminPort}/metrics | grep millrace_`);
  await new Promise(() => setInterval(() => {}, 60_000));
}

function placeOf(address: SinkAddress): string {
  if (address.kind === "kafka") return address.broker;
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
// This also ends servers that were just starting when the demo was stopped: see scripts/services/guard.ts.
process.exit(exitCode);

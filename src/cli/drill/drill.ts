/**
 * `millrace drill`: breaks an installation on purpose, and compares every row afterwards.
 *
 *   drill ─┬─► the daemon, its own child: killed, stopped in order, started again
 *          ├─► relay.ts: proxies between it and each address that it connects to; cut, stalled, refused
 *          └─► the daemon's socket: sinks are paused and resumed; whether they are up to date; the comparison at the end
 *
 * One thing breaks at a time. The next one does when every sink has what the source had.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Place } from "../../config/load.ts";
import { systemClock as clock, timestamp } from "../../core/clock.ts";
import { type ReconcileDocument, requestOf } from "../../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import { findMillraceError } from "../../core/errors.ts";
import { reportText } from "../../reconcile/report/text.ts";
import type { CommandLine } from "../command-line.ts";
import { untilSignal } from "../commands/run.ts";
import { DaemonClient } from "../daemon-client.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { NOT_DONE, withNest } from "../options.ts";
import { byDaemon, exitOf } from "../reconcile/reconcile.ts";
import type { Session } from "../session.ts";
import { tableText } from "../table.ts";
import { Relay } from "./relay.ts";

/** How long a connection is stalled: longer than a short hiccup, shorter than what ends sessions at servers. */
const STALLED_MS = 10_000;
const HELD_MS = 5_000;
/** Before each break, so that it meets another moment of the work. */
const BEFORE_MS_MAX = 1_000;
const RECOVERED_WITHIN_MS = 10 * 60_000;
const ASKED_MS = 2_000;
const ANSWER_MS = 10_000;
const AGAIN_MS = 100;
const STDERR_LINES = 20;
const MINUTES_MAX = 24 * 60;

type Break = { readonly what: "kill" | "stop" | "cut" | "stall" | "refuse" | "pause"; readonly on: string };

interface Done extends Break {
  readonly at: string;
  /** How many were open when they were broken. Null: it broke something else. */
  readonly connections: number | null;
  /** From the end of the break until every sink had what the source had. Null: it did not come to that. */
  readonly recoveryMs: number | null;
}

export function addDrill({ program, action }: CommandLine): void {
  program
    .command("drill")
    .description(
      "break this installation on purpose and compare every row afterwards: its daemon is started, killed and cut off; prints the plan unless --yes is given",
    )
    .option("--minutes <number>", "for how long things break", "10")
    .option("--yes", "do it")
    .action(
      action("none", async (session, options) => {
        const minutes = Number(options.text("--minutes"));
        if (!(minutes > 0 && minutes <= MINUTES_MAX))
          throw cliError("MR1110", `--minutes: expected a number up to ${MINUTES_MAX}`);
        const place = await session.place();
        if (place.shareCount !== null) throw cliError("MR1110", "a drill has one daemon: source.shares is set");
        await session.config();
        await expectNoDaemon(place);
        if (!options.has("--yes")) {
          const plan = planOf(place, minutes);
          session.print({ applied: false, plan }, [...plan, NOT_DONE].join("\n"));
          return EXIT.refused;
        }
        const startedAt = timestamp(clock);
        await using drill = await Drill.open(session, place, untilSignal());
        await drill.run(minutes * 60_000);
        const found = drill.isRecovered ? await drill.compare() : null;
        const { breaks, addresses, starts } = drill;
        const document = { applied: true, startedAt, finishedAt: timestamp(clock), addresses, starts, breaks };
        session.print({ ...document, reconcile: found }, drillText(breaks, starts, found));
        return found === null ? EXIT.timedOut : exitOf(found);
      }),
    );
}

function planOf(place: Place, minutes: number): readonly string[] {
  const sinks = withNest(place).sinks.map(({ name }) => name);
  return [
    `For ${minutes} min the drill starts the daemon of ${place.name} itself, behind local proxies, and over and over`,
    "- kills it (SIGKILL), stops it in order, and starts it again",
    "- cuts, stalls and refuses its connections to the source, the state and each sink that it reaches over a network",
    `- pauses and resumes ${sinks.join(", ")}`,
    "and at the end compares every row of every sink with the source, and stops the daemon.",
    "It ends no process and no connection but its own. The sinks lag meanwhile, and the source keeps its log for them.",
  ];
}

async function expectNoDaemon({ name, state }: Place): Promise<void> {
  const status = await new DaemonClient(state).ask<StatusDocument>("GET", "/api/v1/status");
  const hint = "Stop it first: the drill starts one of its own.";
  if (status !== undefined) throw cliError("MR1213", `a daemon of ${name} is running`, { hint });
}

class Drill implements AsyncDisposable {
  readonly breaks: Done[] = [];
  /** Of the daemon. */
  starts = 0;
  isRecovered = true;
  readonly #session: Session;
  readonly #place: Place;
  readonly #client: DaemonClient;
  readonly #signal: AbortSignal;
  readonly #folder: string;
  readonly #relay: Relay;
  #daemon: ChildProcess;
  #stderr: string[] = [];

  private constructor(session: Session, place: Place, signal: AbortSignal, folder: string, relay: Relay) {
    this.#session = session;
    this.#place = place;
    this.#client = new DaemonClient(place.state);
    this.#signal = signal;
    this.#folder = folder;
    this.#relay = relay;
    this.#daemon = this.#start();
  }

  static async open(session: Session, place: Place, signal: AbortSignal): Promise<Drill> {
    const folder = mkdtempSync(join(tmpdir(), "millrace-drill-"));
    return new Drill(session, place, signal, folder, await Relay.open(join(folder, "ask.sock")));
  }

  get addresses(): readonly string[] {
    return this.#relay.addresses;
  }

  /** What began before the time is over is waited for. */
  async run(forMs: number): Promise<void> {
    const { log } = this.#session;
    log.info({}, "the daemon starts; things break when every sink is up to date");
    await this.#upToDate(Number.POSITIVE_INFINITY);
    await this.#expectAllRun();
    const endMs = clock.elapsed() + forMs;
    while (this.isRecovered && clock.elapsed() < endMs) {
      for (const one of this.#round()) {
        if (clock.elapsed() >= endMs || !this.isRecovered) return;
        await clock.sleep(clock.random() * BEFORE_MS_MAX, this.#signal);
        const at = timestamp(clock);
        const connections = await this.#break(one);
        const recoveryMs = await this.#upToDate(RECOVERED_WITHIN_MS);
        this.isRecovered = recoveryMs !== null;
        this.breaks.push({ ...one, at, connections, recoveryMs });
        log.info({ ...one, recoveryMs }, recoveryMs === null ? "not recovered" : "recovered");
      }
    }
  }

  async compare(): Promise<ReconcileDocument> {
    const sinks = withNest(this.#place).sinks.map(({ name }) => name);
    const found = await byDaemon(this.#place, requestOf({ sinks }), this.#session);
    if (found === undefined) throw this.#ended();
    return found;
  }

  /** Each kind once for all that it can break: addresses are those that the daemon has connected to. */
  #round(): readonly Break[] {
    const on = ["cut", "stall", "refuse"] as const;
    const sinks = withNest(this.#place).sinks;
    return [
      { what: "kill", on: "daemon" },
      ...on.flatMap((what) => this.addresses.map((address) => ({ what, on: address }))),
      ...sinks.map(({ name }) => ({ what: "pause", on: name }) as const),
      { what: "stop", on: "daemon" },
    ];
  }

  async #break({ what, on }: Break): Promise<number | null> {
    switch (what) {
      case "kill":
        await this.#restart("SIGKILL");
        return null;
      case "stop":
        await this.#restart("SIGTERM");
        return null;
      case "cut":
        return this.#relay.cut(on);
      case "stall":
      case "refuse": {
        const count = this.#relay[what](on);
        await clock.sleep(what === "stall" ? STALLED_MS : HELD_MS, this.#signal);
        this.#relay.forward(on);
        return count;
      }
      case "pause":
        await this.#client.ask("POST", "/api/v1/pause", { sink: on });
        try {
          await clock.sleep(HELD_MS, this.#signal);
        } finally {
          const isResumed = (await this.#client.ask("POST", "/api/v1/resume", { sink: on })) !== undefined;
          if (!isResumed) this.#session.log.warn({ sink: on }, "the sink stays paused: the daemon has ended");
        }
        return null;
      default:
        return what satisfies never;
    }
  }

  async #restart(signal: NodeJS.Signals): Promise<void> {
    await this.#end(signal);
    this.#daemon = this.#start();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (hasEnded(this.#daemon)) return;
    const ended = once(this.#daemon, "exit");
    this.#daemon.kill(signal);
    await ended;
  }

  #start(): ChildProcess {
    const own = import.meta.url;
    const through = new URL(own.endsWith(".ts") ? "./through.ts" : "./through.js", own);
    const { configFile } = this.#session;
    const args = [
      "--import",
      through.href,
      process.argv[1] ?? "",
      "run",
      "--config",
      configFile,
      "--log-level",
      "warn",
    ];
    const daemon = spawn(process.execPath, [...process.execArgv, ...args], {
      env: { ...process.env, MILLRACE_DRILL: join(this.#folder, "ask.sock") },
      stdio: ["ignore", "ignore", "pipe"],
      // A terminal's Ctrl-C is the drill's, which stops its daemon after it has resumed what it paused.
      detached: true,
    });
    daemon.stderr.setEncoding("utf8");
    daemon.stderr.on("data", (text: string) => {
      this.#stderr = [...this.#stderr, ...text.split("\n").filter((line) => line !== "")].slice(-STDERR_LINES);
    });
    this.starts++;
    return daemon;
  }

  /** How long it took; null: longer. A daemon that asks for another start gets it, as from a supervisor. */
  async #upToDate(withinMs: number): Promise<number | null> {
    const fromMs = clock.elapsed();
    while (clock.elapsed() - fromMs < withinMs) {
      this.#signal.throwIfAborted();
      if (hasEnded(this.#daemon)) {
        if (this.#daemon.exitCode !== EXIT.again) throw this.#ended();
        this.#daemon = this.#start();
      }
      if (await this.#isUpToDate()) return Math.round(clock.elapsed() - fromMs);
      await clock.sleep(AGAIN_MS, this.#signal);
    }
    return null;
  }

  async #isUpToDate(): Promise<boolean> {
    try {
      const path = "/api/v1/wait";
      const asked = { timeoutMs: ASKED_MS };
      return (await this.#client.ask<{ reached: boolean }>("POST", path, asked, ANSWER_MS))?.reached ?? false;
    } catch (error) {
      if (findMillraceError(error) === undefined) throw error;
      return false;
    }
  }

  /** The drill resumes what it has paused, and must not resume what somebody else has. */
  async #expectAllRun(): Promise<void> {
    const status = await this.#client.ask<StatusDocument>("GET", "/api/v1/status");
    const paused = status?.sinks.filter(({ state }) => state === "paused").map(({ name }) => name) ?? [];
    if (paused.length > 0) throw cliError("MR1127", `paused: ${paused.join(", ")}`, { hint: "Resume them first." });
  }

  #ended(): Error {
    const last = this.#stderr.length === 0 ? "" : `; its last lines:\n${this.#stderr.join("\n")}`;
    const how = this.#daemon.signalCode ?? `code ${this.#daemon.exitCode}`;
    return cliError("MR1116", `the daemon has ended with ${how}${last}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const address of this.addresses) this.#relay.forward(address);
    await this.#end("SIGTERM");
    await this.#relay[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

function drillText(breaks: readonly Done[], starts: number, found: ReconcileDocument | null): string {
  const kinds = Map.groupBy(breaks, ({ what, on }) => `${what} ${on}`);
  const rows = [...kinds.values()].map((all) => {
    const times = all.map(({ recoveryMs }) => recoveryMs ?? Number.POSITIVE_INFINITY).toSorted((a, b) => a - b);
    return [
      all[0]!.what,
      all[0]!.on,
      all.length,
      seconds(times[Math.floor(times.length / 2)]!),
      seconds(times.at(-1)!),
    ];
  });
  const head = ["what", "of", "times", "recovered: half within", "longest"];
  const ending =
    found === null
      ? `not every sink has recovered within ${RECOVERED_WITHIN_MS / 60_000} min: nothing was compared`
      : reportText(found);
  return [tableText(head, rows, "nothing broke"), `the daemon was started ${starts} times`, ending].join("\n");
}

function seconds(ms: number): string {
  return Number.isFinite(ms) ? `${(ms / 1_000).toFixed(1)} s` : "not";
}

/** The end of a run: faults have ended, operators do what the errors' pages say, and the system has to get there. */
import { type StateStore, TABLE_PAUSED } from "../../src/core/contracts/state-store.ts";
import type { Acts } from "./acts.ts";
import { Violation } from "./checks.ts";
import { proveByComparison, spoilSome } from "./comparing.ts";
import { HEARTBEAT_MS } from "./daemon.ts";
import { fairWeather, SILENCE_MS } from "./network.ts";
import { refusesNone } from "./targets.ts";
import { wholly } from "./tracing.ts";
import { SINK_MS, SOURCE_MS, type World } from "./world.ts";

/** In virtual time, from the last fault on. */
const SETTLES_WITHIN_MS = 240_000;
const ROUND_MS = 3_000;
/** A mark on its way, or a sink that is being looked at. */
const GIVES_BACK_WITHIN_MS = 5_000;
const BY_HAND: ReadonlySet<string> = new Set(["empty", "table lost", "sink restored", "unlogged", "detach", "alter"]);

const NOTICED_WITHIN_MS = 60_000;

export async function settle(world: World, acts: Acts): Promise<void> {
  const { scheduler, server, targets, state, checks } = world;
  world.isStormy = false;
  Object.assign(server.weather, fairWeather(SOURCE_MS));
  for (const { weather } of targets) Object.assign(weather, fairWeather(SINK_MS));
  state.isFull = false;
  world.skewMs = 0;
  server.refusesSecond = false;
  for (const target of targets) Object.assign(target, { refuses: refusesNone, takesTogether: true });
  server.database.settle();
  world.daemon?.process.spare();
  world.say(() => "faults end");
  const isSpoilt = world.plan.happenings.some(({ what }) => what === "spoil");
  let isDone = false;
  let missing: readonly string[] = [];
  const settling = async (): Promise<void> => {
    // What was done to a sink by hand is seen at the next heartbeat, once one that nobody answers is given up.
    const { happenings } = world.plan;
    const hangs = happenings.some((one) => one.what === "weather" && one.kind === "hanging");
    if (happenings.some(({ what }) => BY_HAND.has(what)))
      await world.sleep(2 * HEARTBEAT_MS + (hangs ? SILENCE_MS : 0));
    // Who is still at work ends first.
    while (world.holds > 0) await world.sleep(20);
    if (world.without.size > 0) await world.whileStopped(0, async () => world.without.clear());
    // Whoever puts a backup of the source in its place knows that the sinks may be ahead of it.
    if (server.isRestored) await world.whileStopped(0, () => acts.operators.recover(null, true));
    for (const { traits } of targets) await acts.operators.resume(traits.name);
    await resumeTables(world, acts);
    // A sink that was not open, or was paused, sees it later.
    for (let leftMs = NOTICED_WITHIN_MS; leftMs > 0 && targets.some((target) => target.isShort); leftMs -= 20)
      await world.sleep(20);
    let isToSpoil = isSpoilt;
    let hasSeen = false;
    const sinceMs = world.timeOfDayMs;
    for (;;) {
      const control = world.daemon?.running?.control;
      if (control === undefined) {
        if (world.daemon === null) await remedyOfDaemon(world, acts);
        world.start();
        await world.sleep(50);
        continue;
      }
      const daemon = world.daemon!;
      const asked = control.wait(ROUND_MS, new AbortController().signal);
      // What is dead does not answer.
      const death = new Promise<null>((resolve) => daemon.process.onDeath(() => resolve(null)));
      const result = await Promise.race([asked, death, world.sleep(ROUND_MS * 2).then(() => null)]).catch(() => null);
      // A command that somebody still waits for may repair what is spoilt from here on.
      if (result?.reached === true && acts.operators.isAtWork) await world.sleep(20);
      else if (result?.reached === true && !hasSeen && targets.some((target) => target.isShort)) {
        // It was not open until now: it sees what it lacks at its next heartbeat.
        hasSeen = true;
        await world.sleep(2 * HEARTBEAT_MS);
      } else if (result?.reached === true) {
        world.proofs.look();
        // A comparison by hand renews what is proven.
        if (world.plan.proves === true) world.proofs.voided(await world.beside.proofs.list());
        if (isToSpoil) for (const target of targets) spoilSome(target);
        isToSpoil = false;
        if ((!isSpoilt || (await proveByComparison(world))) && (await hasProven(world, sinceMs))) break;
      }
      missing = result?.missing ?? ["the daemon does not answer"];
      const suspended = [...(world.daemon?.running?.pipeline.gate.suspended ?? [])];
      if (suspended.some(([, { code }]) => code === "MR1027"))
        await world.whileStopped(0, async () => void (world.policy = "evolve"));
      if (suspended.some(([, { code }]) => code === "MR1033"))
        await world.whileStopped(0, async () => void (world.rules = "masks"));
      for (const [id] of suspended) await acts.operators.approve(id);
      await resumeTables(world, acts);
      if (world.daemon === daemon) await remedyOfSinks(world, acts);
    }
    isDone = true;
  };
  settling().catch((error: unknown) => checks.fail(`settling failed: ${wholly(error)}`));
  await scheduler.run(() => isDone || checks.violation !== null, scheduler.nowMs + SETTLES_WITHIN_MS);
  checks.throwViolation();
  if (!isDone) throw new Violation(`it does not get there: ${world.lastError ?? ""} ${missing.join("; ")}`);
  await givenBack(world);
  for (const target of targets) target.arrive();
  checks.throwViolation();
  checks.equal(server.database.tables, world, targets, await world.beside.deadLetters.list({ state: "waiting" }));
  await obligations(world.beside);
  await keptShapes(world);
}

async function resumeTables({ beside }: World, { operators }: Acts): Promise<void> {
  for (const { sink, tableId, error } of await beside.suspensions.list())
    if (sink !== null && error.code === TABLE_PAUSED) await operators.resumeTable(sink, tableId);
}

/** What cannot be compared now waits for half a minute. */
const PROVES_WITHIN_MS = 100_000;

/** The continuous comparison comes to an end of its own. */
async function hasProven({ plan, proofs, beside, sleep, say }: World, sinceMs: number): Promise<boolean> {
  if (plan.proves !== true || plan.happenings.some(({ what }) => what === "clock")) return true;
  for (let leftMs = PROVES_WITHIN_MS; leftMs > 0; leftMs -= HEARTBEAT_MS) {
    const letters = await beside.deadLetters.list({ state: "waiting" });
    const missing = proofs.missing(await beside.proofs.list(), letters, sinceMs);
    if (missing.length === 0) return true;
    await sleep(HEARTBEAT_MS);
    if (leftMs <= HEARTBEAT_MS) say(() => missing.join("; "));
  }
  return false;
}

const LOSSES: ReadonlySet<string> = new Set(["MR2010", "MR2013", "MR1311"]);

async function remedyOfDaemon(world: World, { operators }: Acts): Promise<void> {
  const code = world.lastError;
  world.lastError = null;
  if (code !== null && LOSSES.has(code)) await operators.recover(null, false);
}

/** What the pages of these errors say. */
async function remedyOfSinks(world: World, { operators }: Acts): Promise<void> {
  for (const { name, state, error } of world.daemon?.running?.pipeline.lives ?? []) {
    if (state !== "failed") continue;
    const code = error?.code ?? "";
    switch (code) {
      case "MR1301":
        await world.whileStopped(0, () => operators.recover(name, false));
        return;
      case "MR2010":
      case "MR2013":
      case "MR1311":
      case "MR1309":
        await world.whileStopped(0, () => operators.recover(null, false));
        return;
      case "MR3997":
        await world.whileStopped(0, async () => undefined);
        return;
      case "MR1317":
        await world.whileStopped(0, () => operators.reset(name, "snapshot"));
        return;
      default:
        await operators.resume(name);
    }
  }
}

/** Whoever waits for nothing holds no block: else memory would grow by it. */
async function givenBack({ daemon, scheduler }: World): Promise<void> {
  const blocks = daemon!.process.blocks;
  await scheduler.run(() => blocks.held === 0, scheduler.nowMs + GIVES_BACK_WITHIN_MS);
  if (blocks.held > 0) throw new Violation(`${blocks.held} blocks are not given back`);
}

async function obligations(state: StateStore): Promise<void> {
  const snapshots = await state.snapshots.list();
  if (snapshots.length > 0)
    throw new Violation(
      `a read is left over: ${snapshots.map(({ tableId, sink, scope }) => `${scope.kind} of ${tableId} for ${sink}`).join()}`,
    );
  if ((await state.snapshots.countKeys()).size > 0) throw new Violation("listed keys are left over");
}

/** Where changes are ignored all the time, sinks never get another shape than the first. */
async function keptShapes({ plan, policy, beside: { schemas } }: World): Promise<void> {
  if (plan.policy !== "ignore" || policy !== "ignore" || plan.happenings.some(({ what }) => what === "policy")) return;
  for (const { id } of await schemas.list()) {
    const versions = await schemas.versions(id);
    const followed = versions.filter(({ ruled }) => ruled?.fault == null);
    const shapes = new Set(followed.map(({ columns }) => JSON.stringify(columns.map(({ name }) => name))));
    if (shapes.size > 1) throw new Violation(`${id} got another shape: ${[...shapes].join(" and ")}`);
  }
}

/** Does what a plan says. */
import { compareAndRepair, spoil } from "./comparing.ts";
import { Daemon } from "./daemon.ts";
import { fairWeather, worsen } from "./network.ts";
import { Operators } from "./operators.ts";
import type { Row } from "./database.ts";
import type { Happening } from "./happenings.ts";
import { refusesNone, type Target, type TargetCopy } from "./targets.ts";
import { briefly, wholly } from "./tracing.ts";
import { transact } from "./transacting.ts";
import { COLUMNS, SINK_MS, SOURCE_MS, type World } from "./world.ts";

/** Places of one host are none of another. */
const FAILOVER_OFFSET = 1_000_000n;

/** So long may a first copy wait for a sink that takes much longer than the others: three times for its answer, then for its rows. */
const HELD_UP_MS_MAX = 45_000;

/** After these alone no sink ever differs from the source at a position. */
const HARMLESS: ReadonlySet<Happening["what"]> = new Set([
  "transaction",
  "crash",
  "stop",
  "weather",
  "pause",
  "repair",
  "wait",
  "snapshot",
]);

export class Acts {
  readonly #world: World;
  readonly operators: Operators;

  constructor(world: World) {
    this.#world = world;
    this.operators = new Operators(world);
  }

  happen(happening: Happening): void {
    const world = this.#world;
    if (!world.isStormy) return;
    if (!HARMLESS.has(happening.what)) world.mayDiffer = true;
    if (happening.what !== "transaction") world.say(() => `** ${JSON.stringify(happening)}`);
    world.proofs.look();
    this.#happen(happening)
      .then(() => world.proofs.look())
      .catch((error: unknown) => world.checks.fail(`an act failed: ${wholly(error)}`));
  }

  #expectOthersStream(place: "source" | number): void {
    const { checks, daemon } = this.#world;
    const pipeline = daemon?.running?.pipeline;
    if (place === "source" || pipeline?.facts.phase !== "snapshot") return;
    const { name } = this.#target(place).traits;
    // One that is paused waits for its operator: a crash may have come before the command to resume it was stored.
    if (pipeline.lives.every((life) => life.name === name || life.state === "paused")) return;
    checks.fail(`all sinks wait in the first copy for ${name}, which crawls`);
  }

  async #happen(happening: Happening): Promise<void> {
    const world = this.#world;
    const { scheduler, server, state, checks, daemon } = world;
    const { database } = server;
    const { operators } = this;
    switch (happening.what) {
      case "transaction":
        return transact(world, happening);
      case "crash": {
        if (daemon === null) return;
        daemon.process.killAfter(happening.afterCalls);
        daemon.process.onDeath(() => scheduler.after(happening.downMs, () => world.start()));
        return;
      }
      case "stop":
        return await world.whileStopped(happening.downMs, async () => undefined);
      case "weather": {
        const { place, kind, forMs } = happening;
        const weather = place === "source" ? server.weather : this.#target(place).weather;
        worsen(weather, kind);
        const usualMs = place === "source" ? SOURCE_MS : SINK_MS;
        scheduler.after(forMs, () => Object.assign(weather, fairWeather(usualMs)));
        if (kind === "crawling") scheduler.after(HELD_UP_MS_MAX, () => this.#expectOthersStream(place));
        return;
      }
      case "pause": {
        const name = this.#target(happening.sink).traits.name;
        await operators.pause(name);
        scheduler.after(happening.forMs, () => void operators.resume(name));
        return;
      }
      case "pause table": {
        const { name } = this.#target(happening.sink).traits;
        const id = database.table(happening.table)?.shape.id;
        if (id === undefined) return;
        const { downMs, forMs } = happening;
        const act = async (work: () => Promise<void>) =>
          downMs === null ? await work() : await world.whileStopped(downMs, work);
        await act(() => operators.pauseTable(name, id));
        await world.sleep(forMs);
        if (world.isStormy) await act(() => operators.resumeTable(name, id));
        return;
      }
      case "snapshot": {
        const { sink, table, hasCondition, downMs } = happening;
        const sinks = sink === null ? [] : [this.#target(sink).traits.name];
        const id = table === null ? undefined : database.table(table)?.shape.id;
        const tables = id === undefined ? [] : [id];
        const request = { sinks, tables, where: hasCondition ? "true" : null };
        if (downMs === null) return await operators.snapshot(request);
        return await world.whileStopped(downMs, () => operators.snapshot(request));
      }
      case "read by now": {
        const { name } = this.#target(happening.sink).traits;
        const id = database.table(happening.table)?.shape.id;
        if (world.configured.length < 2) return;
        const open = (await daemon?.running?.pipeline.snapshots(false)) ?? [];
        if (open.some(({ sink, tableId }) => sink === name && tableId === id))
          checks.fail(`${name} waits for a slower sink that reads the same table`);
        return;
      }
      case "reset": {
        const name = happening.sink === null ? null : this.#target(happening.sink).traits.name;
        return await world.whileStopped(0, () => operators.reset(name, happening.to));
      }
      case "recover": {
        const name = happening.sink === null ? null : this.#target(happening.sink).traits.name;
        return await world.whileStopped(0, () => operators.recover(name, happening.isForced));
      }
      case "export": {
        const [dump, saved] = [await operators.export(), world.proofs.saved()];
        await world.sleep(happening.importAfterMs);
        if (!world.isStormy) return;
        await world.whileStopped(0, () => operators.import(dump, saved));
        return;
      }
      case "without sink": {
        const target = this.#target(happening.sink);
        const { name } = target.traits;
        await world.whileStopped(0, async () => void world.without.add(name));
        // It holds nothing back any more: when it returns it may be filled again.
        checks.restart(target);
        await world.sleep(happening.forMs);
        await world.whileStopped(0, async () => void world.without.delete(name));
        return;
      }
      case "teardown":
        return await world.whileStopped(happening.downMs ?? 0, () => operators.teardown(happening.withSinks));
      case "wait":
        return await operators.wait();
      case "rules":
        return await world.whileStopped(happening.downMs, async () => {
          world.rules = happening.kind;
          // Rows come and go by them.
          for (const target of world.targets) checks.forget(target);
        });
      case "policy":
        return await world.whileStopped(happening.downMs, async () => void (world.policy = happening.to));
      case "approve": {
        const id = database.table(happening.table)?.shape.id;
        if (id === undefined) return;
        if (happening.downMs === null) return await operators.approve(id);
        return await world.whileStopped(happening.downMs, () => operators.approve(id));
      }
      case "repair":
        await compareAndRepair(world);
        return;
      case "spoil": {
        const target = this.#target(happening.sink);
        spoil(target, String(happening.key), happening.how);
        checks.forget(target);
        return;
      }
      case "evict": {
        const target = this.#target(happening.sink);
        if (world.plan.sinks[happening.sink % world.targets.length] === "cache") target.evict(String(happening.key));
        return;
      }
      case "empty":
        return this.#put(this.#target(happening.sink), {
          tables: new Map(),
          checkpoint: null,
          evicted: new Set(),
          emptied: new Set(),
        });
      case "table lost": {
        const target = this.#target(happening.sink);
        const id = [...target.tables.keys()].toSorted().at(happening.table);
        if (id === undefined) return;
        world.say(() => `${target.traits.name}: ${id} is ${happening.how}`);
        target.lose(id, happening.how);
        checks.forget(target);
        return;
      }
      case "sink restored": {
        const target = this.#target(happening.sink);
        const copy = target.copy();
        await world.sleep(happening.afterMs);
        if (world.isStormy) this.#put(target, copy);
        return;
      }
      case "refuse together": {
        const target = this.#target(happening.sink);
        target.takesTogether = false;
        scheduler.after(happening.forMs, () => (target.takesTogether = true));
        return;
      }
      case "refuse": {
        const target = this.#target(happening.sink);
        const key = String(happening.key);
        const refuses = (row: Row): boolean => row[0] === key;
        target.refuses = refuses;
        scheduler.after(happening.forMs, () => (target.refuses = refusesNone));
        return;
      }
      case "state restored": {
        const [copy, saved] = [state.copy(), world.proofs.saved()];
        await world.sleep(happening.afterMs);
        if (!world.isStormy) return;
        world.afterCrash(10, () => {
          state.put(copy);
          void world.proofs.stateRestored(saved);
        });
        return;
      }
      case "state lost":
        return world.afterCrash(10, () => {
          state.clear();
          // Another history begins: what is read now lies above all that was there.
          for (const target of world.targets) checks.forget(target);
        });
      case "disk full":
        state.isFull = true;
        scheduler.after(happening.forMs, () => (state.isFull = false));
        return;
      case "alter": {
        const table = database.table(happening.table);
        if (table !== undefined) database.alter(table, happening.how);
        return;
      }
      case "drop": {
        const table = database.table(happening.table);
        if (table === undefined || !database.drop(table) || happening.againAfterMs === null) return;
        await world.sleep(happening.againAfterMs);
        const isFree = !database.tables.some(({ name }) => name === table.name);
        if (world.isStormy && isFree) database.addTable(table.name, COLUMNS);
        return;
      }
      case "swap": {
        const table = database.table(happening.table);
        if (table !== undefined) database.swap(table);
        return;
      }
      case "rename": {
        const table = database.table(happening.table);
        const name = table?.name;
        if (table === undefined || name === undefined || !database.rename(table, `${name}r`)) return;
        if (happening.backAfterMs === null) return;
        await world.sleep(happening.backAfterMs);
        if (world.isStormy && database.tables.includes(table)) database.rename(table, name);
        return;
      }
      case "unlogged": {
        const table = database.table(happening.table);
        if (table !== undefined) database.changeUnlogged(table, String(happening.key));
        return;
      }
      case "detach": {
        const { part, backAfterMs, areChanged } = happening;
        const table = database.table(happening.table);
        const shape = table?.shape;
        const rows = table === undefined ? null : database.detach(table, part);
        if (table === undefined || rows === null || backAfterMs === null) return;
        if (backAfterMs > 0) await world.sleep(backAfterMs);
        if (world.isStormy && database.tables.includes(table) && table.shape === shape)
          database.attach(table, rows, areChanged);
        return;
      }
      case "slot lost":
        server.slot = null;
        return;
      case "purge": {
        if (world.plan.source !== "binlog") return;
        const { log, end } = database;
        server.purgedTo = log[Math.floor(log.length * happening.share)]?.commit ?? end;
        return database.purge(server.purgedTo);
      }
      case "failover": {
        if (world.plan.source !== "binlog") return;
        const { host, purgedTo } = server;
        const { lacksMs } = happening;
        if (lacksMs !== null) {
          const tailless = database.copy();
          await world.sleep(lacksMs);
          if (!world.isStormy || server.host !== host) return;
          database.restore(tailless);
          server.purgedTo = purgedTo;
          checks.hasTimeGoneBack = true;
          for (const target of world.targets) checks.restart(target);
        }
        server.failovers.push({ offset: FAILOVER_OFFSET, commonEnd: database.end });
        database.move(FAILOVER_OFFSET);
        server.purgedTo += FAILOVER_OFFSET;
        server.host++;
        return;
      }
      case "source restored": {
        const copy = database.copy();
        const { host, purgedTo } = server;
        await world.sleep(happening.afterMs);
        if (!world.isStormy || server.host !== host) return;
        world.say(() => `source: is what it was ${happening.afterMs} ms ago`);
        database.restore(copy);
        server.purgedTo = purgedTo;
        if (server.slot !== null && server.slot.confirmed > database.end) server.slot.confirmed = database.end;
        server.isRestored = true;
        for (const target of world.targets) checks.restart(target);
        checks.hasTimeGoneBack = true;
        return;
      }
      case "no second stream":
        server.refusesSecond = true;
        scheduler.after(happening.forMs, () => (server.refusesSecond = false));
        return;
      case "park":
        daemon?.running?.pipeline.life(this.#target(happening.sink).traits.name)?.detach();
        return;
      case "give up": {
        const target = this.#target(happening.sink);
        const pipeline = daemon?.running?.pipeline;
        const life = pipeline?.life(target.traits.name);
        const place = pipeline?.facts.position;
        if (life === undefined || place == null || (life.state === "streaming" && !life.catchingUp)) return;
        checks.giveUp(target, place);
        life.giveUp(place);
        return;
      }
      case "second daemon": {
        const process = world.newProcess("d");
        const second = new Daemon(process, world);
        void second.ended.then(() => {
          world.say(() => `${process.name} ended: ${briefly(second.error)}`);
          process.kill();
        });
        scheduler.after(happening.forMs, () => process.kill());
        return;
      }
      case "stands still":
        daemon?.process.standStill(happening.forMs);
        return;
      case "clock":
        world.skewMs += happening.byMs;
        return;
      default:
        happening satisfies never;
    }
  }

  #target(ordinal: number): Target {
    const { targets } = this.#world;
    return targets[ordinal % targets.length]!;
  }

  #put(target: Target, copy: TargetCopy): void {
    this.#world.say(
      () => `${target.traits.name}: holds another content: ${copy.checkpoint === null ? "nothing" : "an older copy"}`,
    );
    this.#world.proofs.look();
    target.put(copy);
    this.#world.checks.restart(target);
    this.#world.proofs.put(target, copy);
  }
}

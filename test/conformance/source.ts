/**
 * What every source promises, as one suite. A source plugs in with one file:
 *
 *   // test/conformance/postgres-source.pg.test.ts
 *   sourceConformance({
 *     name: "postgres",
 *     async stage() {
 *       const database = await freshDatabase();
 *       return {
 *         open: () => sourceFactory.create({ … }, quietLog),   // a new object each time: what a restarted process would make
 *         run: (...statements) => …,                           // the application: one transaction
 *         create: (name) => …,                                 // a table (id integer key, name text, amount integer)
 *         id: (name) => `public.${name}`,
 *         [Symbol.asyncDispose]: () => database.release(),
 *       };
 *     },
 *   });
 *
 * The statements are those that all sources' databases have in common. What only some databases do (types, failover, open
 * transactions, altered tables in the middle of a transaction) each source tests for itself.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test as declare, type TestContext } from "vitest";
import { comparePositions, type Position, rowVersion } from "../../src/core/model/position.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { eventually } from "../support/run/waiting.ts";
import {
  chunkRows,
  createLog,
  Follower,
  never,
  type PlacedRow,
  registry,
  rowsOf,
  tableVersion,
} from "../support/postgres/postgres-source.ts";

export interface SourceHarness {
  readonly name: string;
  /** What is left out, by the title of the test or of its part, with the reason: it is skipped, and the summary says so. */
  readonly without?: Readonly<Record<string, string>>;
  /** At a position that the log has not reached it waits: a standby may come to it. Default: false, it is refused. */
  readonly waitsForLog?: boolean;
  /** An empty database for one test, released with `await using`. */
  stage(context: TestContext): Promise<SourceStage>;
}

export interface SourceStage extends AsyncDisposable {
  /** A source of this database, with the same name in each call. */
  open(): Promise<Source>;
  /** Runs statements in one transaction of the application. `end`: how it ends. */
  run(statements: readonly string[], end?: "commit" | "rollback"): Promise<void>;
  /** SQL of a table (id: an integer, the key; name: a text; amount: an integer). `isKeyed`: whether it has its key. */
  create(name: string, isKeyed: boolean): string;
  /** The id of a table with this name. */
  id(name: string): string;
}

export function sourceConformance(harness: SourceHarness): void {
  describe(`source ${harness.name}`, () => {
    const titles = new Set<string>();
    const part = (name: string, tests: (harness: SourceHarness, test: Declare) => void): void => {
      titles.add(name);
      describe(name, () => tests(harness, declaring(harness, name, titles)));
    };
    part("the log", logTests);
    part("a start", startTests);
    part("rows beside the stream", rowTests);
    part("the catalogue", catalogueTests);
    declare("leaves out only what there is", () => {
      expect(Object.keys(harness.without ?? {}).filter((title) => !titles.has(title))).toEqual([]);
    });
  });
}

type Declare = (title: string, body: (context: TestContext) => Promise<void>) => void;

function declaring({ without = {} }: SourceHarness, part: string, titles: Set<string>): Declare {
  return (title, body) => {
    titles.add(title);
    declare(title, async (context) => {
      const reason = without[title] ?? without[part];
      context.skip(reason !== undefined, reason);
      await body(context);
    });
  };
}

/** A source that was started on a table `item` with these rows. */
class Started implements AsyncDisposable {
  readonly stage: SourceStage;
  readonly source: Source;
  readonly position: Position;

  private constructor(stage: SourceStage, source: Source, position: Position) {
    this.stage = stage;
    this.source = source;
    this.position = position;
  }

  static async on(harness: SourceHarness, context: TestContext, ...rows: readonly string[]): Promise<Started> {
    const stage = await harness.stage(context);
    await stage.run([stage.create("item", true)]);
    if (rows.length > 0) await stage.run([`insert into item values ${rows.join(", ")}`]);
    const source = await stage.open();
    return new Started(stage, source, (await createLog(source)).position);
  }

  async follow(from = this.position): Promise<Follower> {
    return await Follower.from(this.source, from);
  }

  /** What a stream from there has by now. */
  async changes(from = this.position): Promise<readonly PlacedRow[]> {
    await using follower = await this.follow(from);
    await follower.readTo(await this.source.log.tip(never));
    return follower.rows;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.close();
    await this.stage[Symbol.asyncDispose]();
  }
}

/** The operation, the key, and the row if there is one: what every log has of a change. */
function shown({ op, after, before }: PlacedRow): readonly (string | null)[] {
  const cells = (op === "d" ? before : after) ?? {};
  const texts = ["id", ...(op === "d" ? [] : ["name", "amount"])].map((column) => cells[column] ?? null);
  return [op, ...texts.map((text) => (typeof text === "string" ? text : null))];
}

function logTests(harness: SourceHarness, test: Declare): void {
  test("has every change once, in the order of commits", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'before', 1)");
    await scene.stage.run(["insert into item values (2, 'two', 20), (3, null, null)"]);
    await scene.stage.run(["update item set name = 'three' where id = 3", "delete from item where id = 2"]);
    await scene.stage.run(["update item set amount = 5 where id = 1"]);
    expect((await scene.changes()).map(shown)).toEqual([
      ["c", "2", "two", "20"],
      ["c", "3", null, null],
      ["u", "3", "three", null],
      ["d", "2"],
      ["u", "1", "before", "5"],
    ]);
  });

  test("has no change that was rolled back", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    await scene.stage.run(["insert into item values (2, 'b', 2)", "delete from item where id = 1"], "rollback");
    await scene.stage.run(["insert into item values (3, 'c', 3)"]);
    expect((await scene.changes()).map(shown)).toEqual([["c", "3", "c", "3"]]);
  });

  test("has the old key of a row whose key changed", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    await scene.stage.run(["update item set id = 9 where id = 1"]);
    const [moved] = await scene.changes();
    expect([moved?.op, moved?.before?.["id"], moved?.after?.["id"]]).toEqual(["u", "1", "9"]);
  });

  test("keeps texts as they are", async (context) => {
    await using scene = await Started.on(harness, context);
    await scene.stage.run(["insert into item values (1, 'Zoë ''quoted'' \"x\" 😀 \t', 1), (2, '', 2)"]);
    expect((await scene.changes()).map(({ after }) => after?.["name"])).toEqual([`Zoë 'quoted' "x" 😀 \t`, ""]);
  });

  test("leaves out a table without a key, and has the others", async (context) => {
    await using scene = await Started.on(harness, context);
    const { source, stage, position } = scene;
    await stage.run([stage.create("loose", false)]);
    await stage.run(["insert into loose values (1, 'a', 1)", "insert into item values (1, 'a', 1)"]);
    const options = { temporary: false, resolve: registry(), isKnown: () => false };
    await using follower = new Follower(await source.log.stream(position, options, never));
    await follower.readTo(await source.log.tip(never));
    expect(follower.rows.map(({ table }) => table)).toEqual([stage.id("item")]);
  });

  test("has the changes of a table that is made later, once it is published", async (context) => {
    await using scene = await Started.on(harness, context);
    const { source, stage } = scene;
    await using follower = await scene.follow();
    await stage.run([stage.create("later", true)]);
    // A look, as the runtime takes it.
    await source.catalog.publish(async () => undefined, never);
    await source.catalog.tables(never);
    await stage.run(["insert into later values (1, 'a', 1)"]);
    expect((await follower.catchUp(source)).map(({ table }) => table)).toEqual([stage.id("later")]);
  });

  test("has the values of a column that was added", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    await scene.stage.run(["alter table item add column size integer"]);
    await scene.source.catalog.publish(async () => undefined, never);
    await scene.stage.run(["update item set size = 4 where id = 1"]);
    const [change] = await scene.changes();
    expect(change?.after).toEqual({ id: "1", name: "a", amount: "1", size: "4" });
  });

  test("places the changes of a transaction at one commit, and those of later ones behind", async (context) => {
    await using scene = await Started.on(harness, context);
    await using follower = await scene.follow();
    const commits: (readonly bigint[])[] = [];
    for (const id of [10, 20, 30]) {
      await scene.stage.run([`insert into item values (${id}, 'a', 1), (${id + 1}, 'b', 2)`]);
      const before = follower.rows.length;
      await follower.catchUp(scene.source);
      commits.push(follower.rows.slice(before).map(({ position }) => position.commit));
    }
    expect(commits.map((of) => [of.length, new Set(of).size])).toEqual([
      [2, 1],
      [2, 1],
      [2, 1],
    ]);
    const places = follower.rows.map(({ position }) => position);
    for (const [i, place] of places.entries()) {
      const last = places[i - 1];
      if (last !== undefined) expect(comparePositions(place, last)).toBeGreaterThan(0);
    }
    for (const { position, version } of follower.rows) {
      expect(version).toBe((1n << 55n) | position.commit);
      const { positions } = scene.source;
      expect(positions.parse(positions.format(position.commit))).toBe(position.commit);
    }
  });

  test("is the same to each stream, and begins in the transaction that contains the position", async (context) => {
    await using scene = await Started.on(harness, context);
    const read = async (from: Position, until: bigint): Promise<readonly PlacedRow[]> => {
      await using follower = await scene.follow(from);
      await follower.readTo(until);
      return follower.rows;
    };
    for (const id of [1, 3, 5]) await scene.stage.run([`insert into item values (${id}, 'a', 1), (${id + 1}, 'b', 2)`]);
    const end = await scene.source.log.tip(never);
    const first = await read(scene.position, end);
    expect(first.map(({ after }) => after?.["id"])).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect(await read(scene.position, end)).toEqual(first);
    const last = first[5]!.position;
    const again = await read(last, end);
    expect(again).toEqual(first.slice(-again.length));
    expect(new Set(again.map(({ position }) => position.commit))).toEqual(new Set([last.commit]));
  });

  test("ends where everything precedes it that was committed", async (context) => {
    await using scene = await Started.on(harness, context);
    const before = await scene.source.log.tip(never);
    await scene.stage.run(["insert into item values (1, 'a', 1)"]);
    const [change] = await scene.changes();
    const after = await scene.source.log.tip(never);
    expect(before <= change!.position.commit && change!.position.commit < after).toBe(true);
    const earliest = await scene.source.log.earliest(never);
    expect(earliest !== null && earliest <= scene.position.commit).toBe(true);
    expect((await scene.source.admin.health(never)).tip).toBeGreaterThanOrEqual(change!.position.commit);
  });

  test("carries a mark behind all that was committed before it", async (context) => {
    await using scene = await Started.on(harness, context);
    await using follower = await scene.follow();
    const { watermarks } = scene.source;
    await scene.stage.run(["insert into item values (1, 'a', 1)"]);
    await watermarks.mark("low", never);
    await scene.stage.run(["insert into item values (2, 'b', 2)"]);
    await watermarks.mark("high", never);
    // A source may carry marks of its own.
    const marks = () => follower.messages.filter(({ prefix }) => prefix === watermarks.markPrefix);
    while (marks().length < 2) await follower.readOne();
    await follower.catchUp(scene.source);
    expect(marks()).toMatchObject([
      { text: "low", before: 1 },
      { text: "high", before: 2 },
    ]);
    // What is read at a mark has its version: a history shows it between the two.
    const low = rowVersion(scene.position.epoch, marks()[0]!.position);
    const [earlier, later] = follower.rows;
    expect([earlier!.version < low, low < later!.version]).toEqual([true, true]);
  });

  test("is passed to the mark of a renewal, also where nothing happens", async (context) => {
    await using scene = await Started.on(harness, context);
    await using follower = await scene.follow();
    const mark = await scene.source.watermarks.renew(never);
    const passed = () => follower.untils.at(-1) ?? scene.position;
    while (passed().commit <= mark) await follower.readOne();
  });

  test("keeps what was not acknowledged", async (context) => {
    await using scene = await Started.on(harness, context);
    await using follower = await scene.follow();
    await scene.stage.run(["insert into item values (1, 'a', 1)"]);
    await follower.catchUp(scene.source);
    const { position } = follower;
    await scene.stage.run(["insert into item values (2, 'b', 2)"]);
    await follower.catchUp(scene.source);
    follower.stream.acknowledge(position.commit);
    await follower[Symbol.asyncDispose]();
    await eventually(async () => (await scene.changes(position)).map(({ after }) => after?.["id"]).join() === "2");
  });
}

function startTests(harness: SourceHarness, test: Declare): void {
  test("copies the rows, and the stream brings what the copy may not have", async (context) => {
    await using stage = await harness.stage(context);
    await stage.run([stage.create("item", true), "insert into item values (1, 'a', 1), (2, 'b', 2)"]);
    const source = await stage.open();
    const { copy, position } = await createLog(source, true);
    await stage.run(["insert into item values (3, 'c', 3)", "delete from item where id = 1"]);
    expect(copy?.tables.map(({ id }) => id)).toEqual([stage.id("item")]);
    const resolve = registry();
    const rows = new Map<unknown, string>();
    for await (const block of copy!.read(await resolve(copy!.tables[0]!, position), never)) {
      for (const row of rowsOf(block)) rows.set(row.after?.["id"], shown(row).join());
      block.release();
    }
    await copy!.close();
    expect(rows.get("2")).toBe("r,2,b,2");
    {
      await using follower = await Follower.from(source, position, resolve);
      await follower.readTo(await source.log.tip(never));
      expect(follower.rows.map(shown)).toEqual([
        ["c", "3", "c", "3"],
        ["d", "1"],
      ]);
      for (const row of follower.rows) {
        if (row.op === "d") rows.delete(row.before?.["id"]);
        else rows.set(row.after?.["id"], shown(row).join());
      }
    }
    expect(new Set(rows.keys())).toEqual(new Set(["2", "3"]));
    await source.close();
  });

  test("has the generation of each table that it copies", async (context) => {
    await using stage = await harness.stage(context);
    await stage.run([stage.create("item", true)]);
    const source = await stage.open();
    const { copy } = await createLog(source, true);
    expect([...(copy?.generations.keys() ?? [])]).toEqual([stage.id("item")]);
    await copy?.close();
    await source.close();
  });

  test("goes on in the log that it knows", async (context) => {
    await using stage = await harness.stage(context);
    await stage.run([stage.create("item", true)]);
    const source = await stage.open();
    const { identity, position } = await createLog(source);
    await stage.run(["insert into item values (1, 'a', 1)"]);
    await source.close();
    const next = await stage.open();
    const held = { from: position, reached: position };
    const known = await next.admin.resume(identity, held, never);
    {
      await using follower = await Follower.from(next, position);
      await follower.readTo(await next.log.tip(never));
      expect(follower.rows.map(shown)).toEqual([["c", "1", "a", "1"]]);
    }
    await next.close();
    const last = await stage.open();
    await last.admin.resume(known, held, never);
    await last.close();
  });

  test("goes on at no position that the log has not reached", async (context) => {
    await using stage = await harness.stage(context);
    await stage.run([stage.create("item", true)]);
    const source = await stage.open();
    const { identity, position } = await createLog(source);
    const beyond = { ...position, commit: (await source.log.tip(never)) + (1n << 34n) };
    const refused: unknown = await source.admin
      .resume(identity, { from: position, reached: beyond }, never)
      .catch((error: unknown) => error);
    const known = findMillraceError(refused);
    const expected = harness.waitsForLog === true ? ["retryable", false] : ["fatal", true];
    expect([known?.kind, source.admin.losses.has(known?.code ?? "MR0")]).toEqual(expected);
    await source.close();
  });

  test("takes away what it has made, and no more", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    const { admin } = scene.source;
    const record = { identity: null, makes: true };
    const made = (await admin.made?.(record, never)) ?? [];
    await admin.remove?.(record, never);
    const left = (await admin.made?.(record, never)) ?? [];
    expect(left.filter(({ isOurs }) => isOurs)).toEqual([]);
    expect(admin.remove === undefined).toBe(made.length === 0);
    await scene.stage.run(["update item set amount = 2 where id = 1"]);
  });
}

function rowTests(harness: SourceHarness, test: Declare): void {
  const orders = async (context: TestContext, rest?: () => Promise<void>): Promise<void> => {
    const rows = Array.from({ length: 300 }, (_, i) => `(${(i * 7) % 300}, 'n${i}', ${i})`);
    await using scene = await Started.on(harness, context, ...rows);
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    const found: number[] = [];
    let after: KeyText | null = null;
    do {
      const chunk = await scene.source.rows.readRange(table, { after, where: null, rest }, never);
      after = chunk.last;
      found.push(...chunkRows(chunk).map(({ id }) => Number(id)));
    } while (after !== null);
    expect(found).toEqual(Array.from({ length: 300 }, (_, i) => i));
    const tail = await scene.source.rows.readRange(table, { after: ["296"], where: null }, never);
    expect(chunkRows(tail).map(({ id }) => id)).toEqual(["297", "298", "299"]);
  };

  test("come in the order of their key, each once", (context) => orders(context));

  test("come so with rests in between", (context) => orders(context, () => nextTurn()));

  test("that meet a condition are found, however far apart they are", async (context) => {
    const rows = Array.from({ length: 300 }, (_, i) => `(${i}, '${i % 100 === 50 ? "wanted" : "other"}', ${i})`);
    await using scene = await Started.on(harness, context, ...rows);
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    const found: string[] = [];
    let [after, chunkCount]: [KeyText | null, number] = [null, 0];
    do {
      const range = { after, where: "name = 'wanted'", scanRowCountMax: 40 };
      const chunk = await scene.source.rows.readRange(table, range, never);
      after = chunk.last;
      chunkCount++;
      found.push(...chunkRows(chunk).map(({ id }) => String(id)));
    } while (after !== null);
    expect(found).toEqual(["50", "150", "250"]);
    expect(chunkCount).toBeGreaterThanOrEqual(7);
    // A condition that is only tried.
    const tried = (where: string) => {
      return scene.source.rows.readRange(table, { after: null, where, scanRowCountMax: 0 }, never);
    };
    expect(await tried("name = 'wanted'")).toMatchObject({ block: null, last: null });
    await expect(tried("no_such_column = 1")).rejects.toThrow();
  });

  test("are read by their keys; one that is not there is left out", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)", "(2, null, null)", "(3, 'c', 3)");
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    const chunk = await scene.source.rows.readKeys(table, [["3"], ["2"], ["7"]], never);
    const rows = chunkRows(chunk).toSorted((a, b) => Number(a["id"]) - Number(b["id"]));
    expect(rows).toEqual([
      { id: "2", name: null, amount: null },
      { id: "3", name: "c", amount: "3" },
    ]);
    const none = await scene.source.rows.readKeys(table, [["7"]], never);
    expect([none.block, none.last]).toEqual([null, null]);
  });

  test("of an empty table are none, and none follow", async (context) => {
    await using scene = await Started.on(harness, context);
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    const chunk = await scene.source.rows.readRange(table, { after: null, where: null }, never);
    expect([chunk.block, chunk.last]).toEqual([null, null]);
  });

  test("show what was committed before the read", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    await scene.source.watermarks.mark("low", never);
    await scene.stage.run(["update item set name = 'later' where id = 1", "insert into item values (2, 'b', 2)"]);
    const chunk = await scene.source.rows.readRange(table, { after: null, where: null }, never);
    expect((await scene.changes()).map(({ xid }) => xid === 0 || chunk.sees(xid))).toEqual([true, true]);
    expect(chunkRows(chunk).map(({ name }) => name)).toEqual(["later", "b"]);
  });

  test("of a table that is gone are refused", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    const table = await tableVersion(scene.source, scene.stage.id("item"));
    await scene.stage.run(["drop table item"]);
    const refused: unknown = await scene.source.rows
      .readRange(table, { after: null, where: null }, never)
      .catch((error: unknown) => error);
    expect(findMillraceError(refused)?.kind).toBe("retryable");
  });
}

function catalogueTests(harness: SourceHarness, test: Declare): void {
  test("names a table without a key, the reason and the fix", async (context) => {
    await using stage = await harness.stage(context);
    await stage.run([stage.create("item", true), stage.create("loose", false)]);
    const source = await stage.open();
    await createLog(source);
    const { tables, refused } = await source.catalog.tables(never);
    expect(tables.map(({ id }) => id)).toEqual([stage.id("item")]);
    expect(refused.map(({ id, reason, fix }) => [id, reason !== "", fix !== ""])).toEqual([
      [stage.id("loose"), true, true],
    ]);
    await source.close();
  });

  test("finds a table that is made later", async (context) => {
    await using scene = await Started.on(harness, context);
    const { source, stage } = scene;
    await stage.run([stage.create("later", true)]);
    await source.catalog.publish(async () => undefined, never);
    const { tables, generations } = await source.catalog.tables(never);
    expect(tables.map(({ id }) => id).toSorted()).toEqual([stage.id("item"), stage.id("later")]);
    expect([...generations.keys()].toSorted()).toEqual([stage.id("item"), stage.id("later")]);
  });

  test("shows a new column", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    const { source, stage } = scene;
    const before = await tableVersion(source, stage.id("item"));
    await stage.run(["alter table item add column size integer"]);
    await source.catalog.publish(async () => undefined, never);
    const after = await tableVersion(source, stage.id("item"));
    expect(after.columns.map(({ name }) => name)).toEqual(["id", "name", "amount", "size"]);
    expect(after.fingerprint).not.toBe(before.fingerprint);
  });

  test("gives the name's next table another generation", async (context) => {
    await using scene = await Started.on(harness, context, "(1, 'a', 1)");
    const { source, stage } = scene;
    const generation = async () => (await source.catalog.tables(never)).generations.get(stage.id("item"));
    const before = await generation();
    expect(await generation()).toBe(before);
    await stage.run(["drop table item"]);
    await stage.run([stage.create("item", true)]);
    await source.catalog.publish(async () => undefined, never);
    expect(await generation()).not.toBe(before);
  });
}

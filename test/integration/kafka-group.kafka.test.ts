/** The group of the processes that share tables, with a real broker. */
import { randomUUID } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { accessTo } from "../../connectors/kafka/connection.ts";
import type { ClusterAccess } from "../../connectors/kafka/client/cluster.ts";
import { ShareGroup } from "../../connectors/kafka/source/share-group.ts";
import { systemClock } from "../../src/core/clock.ts";
import { groupAt } from "../support/kafka/kafka-groups.ts";
import { kafkaBroker } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

/** A process: what it was given it holds, and it ends what was taken from it when `endsAtOnce`, or when told. */
class Member {
  readonly held = new Set<number>();
  given: readonly number[] = [];
  endsAtOnce = true;
  leaves = false;
  readonly errors: Error[] = [];
  readonly #leaving = new AbortController();
  readonly running: Promise<void>;

  constructor(group: ShareGroup) {
    this.running = group.run(
      {
        held: () => [...this.held],
        leaves: () => this.leaves,
        assign: (shares) => {
          this.given = shares;
          for (const share of shares) this.held.add(share);
          if (this.endsAtOnce) this.endTaken();
        },
        cutOff: (_ms, error) => this.errors.push(error),
      },
      this.#leaving.signal,
    );
    this.running.catch(() => undefined);
  }

  endTaken(): void {
    for (const share of this.held) if (!this.given.includes(share)) this.held.delete(share);
  }

  async leave(): Promise<void> {
    this.#leaving.abort();
    await this.running;
  }
}

function access(): ClusterAccess {
  return accessTo(() => ({ brokers: [kafkaBroker()], clientId: "test", tls: null, sasl: null }));
}

function groupOf(id: string, count: number, cluster = access()): ShareGroup {
  return new ShareGroup({ clock: systemClock, cluster, id, division: { count, by: "id" } });
}

/** The first question for a group's coordinator makes a new broker prepare for groups, and is answered later. */
beforeAll(async () => await eventually(async () => (await groupAt(kafkaBroker(), "nobody")) !== undefined));

test("members share out what there is; nobody gets a share before the one who had it has ended it", async () => {
  const id = `test-${randomUUID()}`;
  const first = new Member(groupOf(id, 4));
  await eventually(() => expect([...first.held]).toEqual([1, 2, 3, 4]));
  first.endsAtOnce = false;
  const second = new Member(groupOf(id, 4));
  await eventually(() => expect(first.given).toHaveLength(2));
  expect([...second.held]).toEqual([]);
  first.endTaken();
  await eventually(() => expect(first.held.union(second.held).size).toBe(4));
  expect([first.held.size, second.held.size]).toEqual([2, 2]);

  const other = new Member(groupOf(id, 5));
  await expect(other.running).rejects.toMatchObject({ code: "MR1330", kind: "fatal" });
  // One that leaves gives back each share as soon as it has ended.
  first.leaves = true;
  const [one] = first.held;
  first.held.delete(one!);
  await eventually(() => expect([...second.held]).toContain(one));
  expect(second.held.size).toBe(3);
  await first.leave();
  await eventually(() => expect(second.held.size).toBe(4));
  await second.leave();
});

/** Its members are slow between joining and asking what they are given: the first time until `go`. */
function slowToSync(go: Promise<void>): { readonly cluster: ClusterAccess; readonly isThere: Promise<void> } {
  const { settings, connect } = access();
  const there = Promise.withResolvers<void>();
  const slow = async (signal: AbortSignal): ReturnType<ClusterAccess["connect"]> => {
    const cluster = await connect(signal);
    const request = cluster.request.bind(cluster);
    cluster.request = async (name, ...parts) => {
      if (name === "SyncGroup") {
        there.resolve();
        await go;
      }
      return await request(name, ...parts);
    };
    return cluster;
  };
  return { cluster: { settings, connect: slow }, isThere: there.promise };
}

test("a member that another one overtakes between joining and its answer stays the member that it is", async () => {
  const id = `test-${randomUUID()}`;
  const went = Promise.withResolvers<void>();
  const { cluster, isThere } = slowToSync(went.promise);
  const first = new Member(groupOf(id, 2, cluster));
  await isThere;
  const { cluster: others, isThere: othersJoined } = slowToSync(Promise.resolve());
  const second = new Member(groupOf(id, 2, others));
  // By then the broker has the second one's question, and answers the first one that it is to join again.
  const isOvertaken = eventually(async () =>
    expect(await groupAt(kafkaBroker(), id)).toMatchObject({ state: "PreparingRebalance" }),
  );
  await Promise.race([othersJoined, isOvertaken]);
  went.resolve();
  // A session, after which the others would go on without a member that is gone, takes 10 seconds.
  await eventually(() => expect([first.held.size, second.held.size]).toEqual([1, 1]), { withinMs: 6_000 });
  expect(first.errors).toEqual([]);
  await first.leave();
  await second.leave();
});

/** Its members join again only when they are let, from `hold` on. */
class HeldBack {
  readonly #asked = Promise.withResolvers<void>();
  readonly #let = Promise.withResolvers<void>();
  #isHolding = false;

  cluster(): ClusterAccess {
    const { settings, connect } = access();
    const slow = async (signal: AbortSignal): ReturnType<ClusterAccess["connect"]> => {
      const cluster = await connect(signal);
      const request = cluster.request.bind(cluster);
      cluster.request = async (name, ...parts) => {
        if (name === "JoinGroup" && this.#isHolding) {
          this.#asked.resolve();
          await this.#let.promise;
        }
        return await request(name, ...parts);
      };
      return cluster;
    };
    return { settings, connect: slow };
  }

  /** Resolves when a member is to join again. */
  async hold(): Promise<void> {
    this.#isHolding = true;
    await this.#asked.promise;
  }

  let(): void {
    this.#let.resolve();
  }
}

test("a member that leaves while it waits for the others is out at once", async () => {
  const id = `test-${randomUUID()}`;
  const first = new Member(groupOf(id, 2));
  await eventually(() => expect(first.held.size).toBe(2));
  const back = new HeldBack();
  const second = new Member(groupOf(id, 2, back.cluster()));
  await eventually(() => expect([first.held.size, second.held.size]).toEqual([1, 1]));
  // One of its daemons has ended: it joins again, and waits for the other one.
  first.held.clear();
  await back.hold();
  await first.leave();
  expect(await groupAt(kafkaBroker(), id)).toMatchObject({ memberCount: 1 });
  back.let();
  // After a session, of 10 seconds, it would be out in any case.
  await eventually(() => expect(second.held.size).toBe(2), { withinMs: 6_000 });
  await second.leave();
});

/** The group of the processes that share tables, with a real broker. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { accessTo } from "../../connectors/kafka/connection.ts";
import { ShareGroup } from "../../connectors/kafka/sharing/share-group.ts";
import { systemClock } from "../../src/core/clock.ts";
import { kafkaBroker } from "../support/services.ts";
import { eventually } from "../support/waiting.ts";

/** A process: what it was given it holds, and it ends what was taken from it when `endsAtOnce`, or when told. */
class Member {
  readonly held = new Set<number>();
  given: readonly number[] = [];
  endsAtOnce = true;
  readonly errors: Error[] = [];
  readonly #leaving = new AbortController();
  readonly running: Promise<void>;

  constructor(group: ShareGroup) {
    this.running = group.run(
      {
        held: () => [...this.held],
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

function groupOf(id: string, count: number): ShareGroup {
  const cluster = accessTo(() => ({ brokers: [kafkaBroker()], clientId: "test", tls: null, sasl: null }));
  return new ShareGroup({ clock: systemClock, cluster, id, division: { count, by: "id" } });
}

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
  await expect(other.running).rejects.toMatchObject({ code: "MR3535", kind: "fatal" });
  await first.leave();
  await eventually(() => expect(second.held.size).toBe(4));
  await second.leave();
});

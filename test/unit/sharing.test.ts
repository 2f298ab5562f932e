/** Who has which share of the tables. */
import { array, assert, boolean, integer, property, record, string, uniqueArray } from "fast-check";
import { expect, test } from "vitest";
import { assign, type Claim } from "../../src/core/sharing/group.ts";
import { divisionText, shareOf } from "../../src/core/sharing/share.ts";
import type { Group } from "../../src/core/sharing/group.ts";
import { abortOf } from "../../src/core/clock.ts";
import { supervise } from "../../src/sharing/supervisor.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const table = (schema: string, name: string) => ({ schema, table: name });

test("a table's share is the same in every version and on every machine", () => {
  const shares = ["orders", "lines", "people", "visits"].map((name) =>
    shareOf(table("public", name), { count: 4, by: "id" }),
  );
  expect(shares).toEqual([4, 1, 1, 3]);
});

test("tables that may meet in one target are in one share", () => {
  for (const count of [2, 7, 64]) {
    const byId = { count, by: "id" } as const;
    expect(shareOf(table("Shop", "Orders"), byId)).toBe(shareOf(table("shop", "orders"), byId));
    const byName = { count, by: "name" } as const;
    expect(shareOf(table("a", "orders"), byName)).toBe(shareOf(table("b", "ORDERS"), byName));
  }
  expect(divisionText({ count: 4, by: "id" })).not.toBe(divisionText({ count: 4, by: "name" }));
});

test("tables spread over the shares", () => {
  const counts = Array.from({ length: 8 }, () => 0);
  for (let i = 0; i < 8_000; i++) counts[shareOf(table("public", `t${i}`), { count: 8, by: "id" }) - 1]!++;
  expect(Math.min(...counts)).toBeGreaterThan(900);
});

/** Members that end what was taken from them and claim what they were given, until nothing changes. */
function settled(claims: readonly Claim[], count: number): readonly Claim[] {
  let now = claims;
  for (let i = 0; i < 4; i++) {
    const assigned = assign(now, count);
    now = now.map((claim) => ({ ...claim, held: assigned.get(claim.member)! }));
  }
  return now;
}

const members = uniqueArray(string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 9 });

test("no share has two members, none is left over, and none has more than its part", () => {
  const scene = record({
    names: members,
    count: integer({ min: 1, max: 64 }),
    held: array(array(integer({ min: 1, max: 80 }), { maxLength: 20 }), { minLength: 9, maxLength: 9 }),
    leaving: array(boolean(), { minLength: 9, maxLength: 9 }),
  });
  assert(
    property(scene, ({ names, count, held, leaving }) => {
      // The first one stays.
      const claims = names.map((member, i) => ({ member, held: [...new Set(held[i])], leaves: i > 0 && leaving[i]! }));
      const once = assign(claims, count);
      const given = [...once.values()].flat();
      expect(new Set(given).size).toBe(given.length);
      for (const [member, shares] of once)
        for (const share of shares) {
          const holders = claims.filter((claim) => claim.held.includes(share)).map((claim) => claim.member);
          // What somebody holds is given to nobody else.
          expect(holders.length === 0 || holders.includes(member)).toBe(true);
        }
      const end = settled(claims, count);
      expect(end.flatMap((claim) => claim.held).toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: count }, (_, i) => i + 1),
      );
      expect(end.filter((claim) => claim.leaves).flatMap((claim) => claim.held)).toEqual([]);
      const sizes = end.filter((claim) => !claim.leaves).map((claim) => claim.held.length);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    }),
  );
});

test("a member that comes takes no more than its part from the others", () => {
  const before = [
    { member: "a", held: [1, 3, 5], leaves: false },
    { member: "b", held: [2, 4, 6], leaves: false },
    { member: "c", held: [], leaves: false },
  ];
  const end = settled(before, 6);
  expect(end.map(({ held }) => held.length)).toEqual([2, 2, 2]);
  expect(end[0]!.held.every((share) => before[0]!.held.includes(share))).toBe(true);
  expect(end[1]!.held.every((share) => before[1]!.held.includes(share))).toBe(true);
});

test.each(["joined", "a share"])(
  "what fails in a process that shares tables (%s) ends it in order, with that error",
  async (what) => {
    const error = new Error("it fails");
    const fails = async (): Promise<never> => await Promise.reject(error);
    const said: string[] = [];
    const group: Group = {
      run: async (member, signal) => {
        member.assign([1, 2]);
        // The group goes on giving shares while the process ends.
        await abortOf(signal);
        member.assign([1, 2, 3]);
        said.push(`left with ${member.held().length}, leaves: ${member.leaves()}`);
      },
    };
    const keepRunning = async (number: number, signal: AbortSignal): Promise<void> => {
      if (what === "a share" && number === 2) await fails();
      said.push(`${number} runs`);
      await abortOf(signal);
      said.push(`${number} ends`);
    };
    const joined = what === "joined" ? fails : async () => undefined;
    const running = supervise({ group, joined, keepRunning, logger: quietLog }, new AbortController().signal);
    await expect(running).rejects.toBe(error);
    const both = what === "joined" ? ["1 runs", "2 runs", "1 ends", "2 ends"] : ["1 runs", "1 ends"];
    expect(said).toEqual([...both, "left with 0, leaves: true"]);
  },
);

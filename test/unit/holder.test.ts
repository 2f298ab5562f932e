import { expect, test } from "vitest";
import { holderName, isGone, localPid } from "../../src/daemon/holder.ts";

test("a process id of another host of the same name, or of an earlier boot, says nothing of a process here", () => {
  const own = holderName();
  expect(localPid(own)).toBe(process.pid);
  const gone = own.replace(/ pid \d+ /, " pid 4194999 ");
  expect(isGone(gone)).toBe(true);
  const elsewhere = gone.replace(
    / in ([0-9a-f]{8})/,
    (_, start: string) => ` in ${start === "00000000" ? "1" : "0"}0000000`,
  );
  expect(elsewhere).not.toBe(gone);
  expect([localPid(elsewhere), isGone(elsewhere)]).toEqual([null, false]);
});

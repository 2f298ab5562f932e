import { networkInterfaces } from "node:os";
import type { TestContext } from "vitest";

/** By which this machine's servers take it for another machine; without one the test is skipped. */
export function ownAddress({ skip }: Pick<TestContext, "skip">): string {
  const all = Object.values(networkInterfaces()).flatMap((some) => some ?? []);
  const own = all.find(({ family, internal }) => family === "IPv4" && !internal);
  skip(own === undefined, "this machine has no address but the loopback's");
  return own?.address ?? "";
}

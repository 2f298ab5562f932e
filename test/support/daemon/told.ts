/** What a person on call reads: the first thing that `status` lists, and the page of its error. */
import { expect } from "vitest";
import { eventually } from "../run/waiting.ts";
import type { Installation } from "./daemon-process.ts";

export const TOLD_WITHIN_MS = 60_000;
export const WELL_WITHIN_MS = 90_000;
/** The start of a command is a third of a second of the processor. */
export const COMMAND_EVERY_MS = 500;

/** What it is, why, and what to do. */
export async function firstSaid(of: Installation): Promise<string> {
  const { stdout } = await of.command("status");
  const lines = stdout.split("\n");
  const begin = lines.findIndex((line) => line.startsWith("  ! "));
  const end = lines.findIndex((line, i) => i > begin && (line === "" || line.startsWith("  ! ")));
  return begin < 0 ? stdout : lines.slice(begin, end).join("\n");
}

export async function expectFirstSaid(of: Installation, parts: readonly RegExp[]): Promise<void> {
  await eventually(
    async () => {
      const said = await firstSaid(of);
      for (const part of parts) expect(said).toMatch(part);
    },
    { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
  );
}

export async function expectExplained(of: Installation, code: string): Promise<void> {
  const { stdout } = await of.command("explain", code);
  expect(stdout).toMatch(new RegExp(`^${code}: .+\n\nWhat to do: .+`));
}

export async function expectWell(of: Installation): Promise<void> {
  await eventually(async () => expect((await of.command("status")).stdout).toMatch(/^all is well/m), {
    withinMs: WELL_WITHIN_MS,
    everyMs: COMMAND_EVERY_MS,
  });
}

export function literally(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`), "i");
}

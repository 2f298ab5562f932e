import type { Config } from "./config/config.ts";
import type { Logger } from "./core/contracts/telemetry.ts";
import type { StateStore } from "./core/contracts/state-store.ts";
import { policyOf } from "./rules/merged-rule.ts";
import type { Pin, Pins } from "./rules/pins.ts";
import { sourceShape } from "./rules/source-shape.ts";
import { type RuledSource, withRules } from "./rules/with-rules.ts";

/** The configured source under its rules. Every part that shows, stores or sends rows must use this one. */
export async function openSource(
  { source, rules }: Pick<Config, "source" | "rules">,
  pins: Pins,
  logger: Logger,
): Promise<RuledSource> {
  return withRules(await source.connector.create(logger), rules, pins);
}

/** The kept shapes of tables whose changes are ignored, as they were last registered. */
export async function pinsOf(
  { rules }: Pick<Config, "rules">,
  { schemas }: Pick<StateStore, "schemas">,
): Promise<Pins> {
  const pins = new Map<string, Pin>();
  if (rules.tables.every(({ policy }) => policy.schemaChange !== "ignore")) return pins;
  for (const table of await schemas.list()) {
    if (policyOf(rules, table).schemaChange !== "ignore") continue;
    const newest = (await schemas.versions(table.id)).at(-1);
    if (newest === undefined) continue;
    const shape = sourceShape(newest);
    if (shape.key.length > 0) pins.set(table.id, { shape, since: newest.since });
  }
  return pins;
}

/** What a start verifies of what is there already, before it writes; `millrace check` does the same. */
import { placedTables } from "../../src/core/checkpoint/checkpoint-text.ts";
import { NO_CHECKPOINT, type TopicCheckpoint } from "./checkpoint.ts";
import { inUse, kafkaError, newlyCompacted, tableError } from "./errors.ts";
import { ownTopic, sinkId } from "./names.ts";
import type { KafkaSinkSettings } from "./settings.ts";
import {
  hasOtherPartitions,
  isNewlyCompacted,
  isSameTopic,
  otherPartitions,
  placeOf,
  type UsableTopic,
} from "./topics.ts";

export function checkpointTopic({ name, naming }: Pick<KafkaSinkSettings, "name" | "naming">): string {
  return ownTopic(`checkpoint.${name}`, naming);
}

export function expectOwner({ owner }: TopicCheckpoint, settings: KafkaSinkSettings): void {
  if (owner !== "" && owner !== sinkId(settings)) throw inUse(checkpointTopic(settings), owner);
}

/** A reader takes records of one form, and compaction keeps the newest of each key, whatever its form. */
export function expectForm({ form: before }: TopicCheckpoint, { form }: KafkaSinkSettings): void {
  if (before === "" || before === form) return;
  throw kafkaError("MR3517", "fatal", `the topics hold \`${before}\`, and the sink is to write \`${form}\``);
}

/** Once a table is not complete in the sink, it is read into the topic as it is. */
export function expectBefore(
  last: TopicCheckpoint,
  id: string,
  usable: Pick<UsableTopic, "name" | "topic" | "isCompacted">,
  { naming }: Pick<KafkaSinkSettings, "naming">,
): void {
  const { name } = usable;
  const before = last.topics[name];
  const now = placeOf(usable);
  if (before === undefined || !isSameTopic(before, now)) return;
  const holdsOne = naming.single === undefined ? holds(last, id) : Object.keys(heldBy(last)).length > 0;
  if (holdsOne && isNewlyCompacted(before, now)) throw newlyCompacted(name);
  if (hasOtherPartitions(before, now) && holds(last, id))
    throw tableError("MR3514", id, otherPartitions(name, before, now));
}

export function holds(last: TopicCheckpoint, id: string): boolean {
  return heldBy(last)[id] !== undefined;
}

function heldBy({ tables }: TopicCheckpoint): Readonly<Record<string, string>> {
  return tables === NO_CHECKPOINT.tables ? {} : placedTables(tables).tables;
}

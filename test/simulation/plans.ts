/** The kinds of plans by name: sizes of those with one daemon, and those with Kafka between two sides. */
import type { Plan } from "./happenings.ts";
import type { KafkaPlan } from "./kafka/happenings.ts";
import { kafkaPlanOf } from "./kafka/plan.ts";
import { isSizeName, planOf, SIZE_NAMES } from "./plan.ts";

export type AnyPlan = Plan | KafkaPlan;

export const KAFKA = "kafka";
const WITH_PARTITIONS = /^kafka-(\d+)$/;
export const KINDS: readonly string[] = [...SIZE_NAMES, KAFKA, `${KAFKA}-PARTITIONS`];

export function isKind(name: string): boolean {
  return isSizeName(name) || name === KAFKA || WITH_PARTITIONS.test(name);
}

export function planNamed(seed: number, name: string): AnyPlan {
  if (isSizeName(name)) return planOf(seed, name);
  const partitions = WITH_PARTITIONS.exec(name)?.[1];
  return kafkaPlanOf(seed, partitions === undefined ? null : Number(partitions));
}

export function isThroughKafka(plan: AnyPlan): plan is KafkaPlan {
  return "shares" in plan;
}

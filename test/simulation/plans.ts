/** The kinds of plans by name: sizes of those with one daemon, those with Kafka between two sides, and those of documents. */
import type { Plan } from "./happenings.ts";
import type { KafkaPlan } from "./kafka/happenings.ts";
import { kafkaPlanOf } from "./kafka/plan.ts";
import { type DocumentPlan, documentPlanOf } from "./documents/plan.ts";
import { isSizeName, planOf, SIZE_NAMES } from "./plan.ts";

export type AnyPlan = Plan | KafkaPlan | DocumentPlan;

export const KAFKA = "kafka";
export const DOCUMENTS = "documents";
const WITH_PARTITIONS = /^kafka-(\d+)$/;
export const KINDS: readonly string[] = [...SIZE_NAMES, KAFKA, `${KAFKA}-PARTITIONS`, DOCUMENTS];

export function isKind(name: string): boolean {
  return isSizeName(name) || name === KAFKA || name === DOCUMENTS || WITH_PARTITIONS.test(name);
}

export function planNamed(seed: number, name: string): AnyPlan {
  if (isSizeName(name)) return planOf(seed, name);
  if (name === DOCUMENTS) return documentPlanOf(seed);
  const partitions = WITH_PARTITIONS.exec(name)?.[1];
  return kafkaPlanOf(seed, partitions === undefined ? null : Number(partitions));
}

export function isOfDocuments(plan: AnyPlan): plan is DocumentPlan {
  return "ofDocuments" in plan;
}

export function isThroughKafka(plan: AnyPlan): plan is KafkaPlan {
  return "shares" in plan;
}

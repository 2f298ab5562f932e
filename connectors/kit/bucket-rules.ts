/** What a bucket does by itself to what Millrace stores there. Rules need rights that nothing else does: one that may not be seen is not told. */
import {
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  type LifecycleRule,
  type S3Client,
} from "@aws-sdk/client-s3";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { warning } from "./findings.ts";

/** Objects there have to be brought back before they can be read. */
const ARCHIVES: ReadonlySet<string> = new Set(["GLACIER", "DEEP_ARCHIVE"]);

interface LookedAt {
  readonly id: string;
  readonly bucket: string;
  /** Empty, or it ends with a slash. */
  readonly prefix: string;
  /** What happens without an object, and what to use instead. */
  readonly lost: string;
}

export async function bucketRules(client: S3Client, at: LookedAt, signal: AbortSignal): Promise<readonly Finding[]> {
  const { id, bucket: Bucket, prefix, lost } = at;
  const place = `s3://${Bucket}/${prefix}`;
  const options = { abortSignal: signal };
  const [lifecycle, versioning, lock] = await Promise.all([
    seen(client.send(new GetBucketLifecycleConfigurationCommand({ Bucket }), options), signal),
    seen(client.send(new GetBucketVersioningCommand({ Bucket }), options), signal),
    seen(client.send(new GetObjectLockConfigurationCommand({ Bucket }), options), signal),
  ]);
  // Objects of ours have no tags.
  const rules = (lifecycle?.Rules ?? []).filter(
    ({ Status, Filter }) => Status === "Enabled" && Filter?.Tag === undefined && Filter?.And?.Tags === undefined,
  );
  const findings: Finding[] = [];
  for (const rule of rules.filter((one) => prefix.startsWith(prefixOf(one)) || prefixOf(one).startsWith(prefix))) {
    const named = `the lifecycle rule ${JSON.stringify(rule.ID ?? "")} of the bucket`;
    const { Days, Date: date } = rule.Expiration ?? {};
    if (Days !== undefined || date !== undefined) {
      const when = Days === undefined ? "at its date" : `after ${Days} days`;
      findings.push(warning(id, `${named} deletes objects below ${place} ${when}: ${lost}`, TAKE_OUT));
    }
    const archive = rule.Transitions?.find(({ StorageClass = "" }) => ARCHIVES.has(StorageClass))?.StorageClass;
    if (archive !== undefined) {
      const what = `${named} moves objects below ${place} to ${archive}, where nobody can read them`;
      findings.push(warning(id, what, TAKE_OUT));
    }
  }
  const endsVersions = rules.some(
    (one) => one.NoncurrentVersionExpiration !== undefined && prefix.startsWith(prefixOf(one)),
  );
  if (versioning?.Status === "Enabled" && !endsVersions) {
    const what = `the bucket keeps old versions, and no rule ends them: whatever Millrace removes below ${place} stays`;
    findings.push(warning(id, what, "Add a lifecycle rule with NoncurrentVersionExpiration for the prefix."));
  }
  const { Mode, Days, Years } = lock?.ObjectLockConfiguration?.Rule?.DefaultRetention ?? {};
  if (Mode !== undefined) {
    const span = Days === undefined ? `${Years} years` : `${Days} days`;
    const what = `object lock (${Mode}) keeps each object below ${place} for ${span}: what Millrace removes stays as long, and a server without versions refuses to remove it`;
    findings.push(warning(id, what, "Choose a bucket without a default retention."));
  }
  return findings;
}

const TAKE_OUT = "Take the prefix out of the rule.";

function prefixOf({ Filter, Prefix }: LifecycleRule): string {
  return Filter?.Prefix ?? Filter?.And?.Prefix ?? Prefix ?? "";
}

/** Null: there is none, it may not be seen, or the server knows no such rules. */
async function seen<T>(asked: Promise<T>, signal: AbortSignal): Promise<T | null> {
  try {
    return await asked;
  } catch {
    signal.throwIfAborted();
    return null;
  }
}

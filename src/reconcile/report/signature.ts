/**
 * Signed reports. Each names the one before it by its digest, so that none can be changed, left out or put in between later
 * without a wrong signature or a gap. Ed25519 (RFC 8032) over the report in canonical JSON (RFC 8785) without the signature's
 * own value.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { normalOf } from "../../core/targets/expected-json.ts";
import {
  digestOf,
  type ReconcileDocument,
  type ReportLink,
  type ReportSignature,
} from "../../core/contracts/reconciliation.ts";

/** The report with its signature. `previous`: the newest report before it; null: there is none. */
export function signedReport(
  found: ReconcileDocument,
  key: KeyObject,
  previous: ReconcileDocument | null,
): ReconcileDocument {
  const signature = {
    key: publicText(createPublicKey(key)),
    previous: previous === null ? null : linkTo(previous, previous.digest),
  };
  const value = sign(null, contentOf(found, signature), key).toString("base64");
  return { ...found, signature: { ...signature, value } };
}

/** What is said of one report among others. */
export interface ReportProof {
  readonly id: string;
  /** The daemon's. */
  readonly name: string;
  readonly finishedAt: string;
  /** The fingerprint of the key that signed it; null: it is not signed. */
  readonly by: string | null;
  readonly sha256: string;
  /** What is wrong; null: nothing. */
  readonly problem: string | null;
}

/**
 * Checks the signatures of reports, and that none between those of one daemon is missing. `key`: the operator's public key;
 * null: each report names its own. Each after the one that it follows; those that follow none of these, oldest first.
 */
export function proofsOf(reports: readonly ReconcileDocument[], key: KeyObject | null): readonly ReportProof[] {
  const links = new Map(reports.map((one) => [one.id, linkTo(one)]));
  // One folder may hold those of several daemons, each with its own state.
  const last = new Map<string, ReconcileDocument>();
  return inOrder(reports).map((report) => {
    const { id, name, finishedAt, signature } = report;
    const before = last.get(name);
    last.set(name, report);
    const problem = signatureProblem(report, key) ?? (before === undefined ? null : linkProblem(report, before, links));
    return {
      id,
      name,
      finishedAt,
      by: signature === undefined ? null : fingerprintOf(signature.key),
      sha256: links.get(id)!.sha256,
      problem,
    };
  });
}

/** By what they follow: a clock may have been set back. */
function inOrder(reports: readonly ReconcileDocument[]): readonly ReconcileDocument[] {
  const newestFirst = reports.toSorted((a, b) => (a.finishedAt < b.finishedAt ? 1 : -1));
  const ids = new Set(reports.map(({ id }) => id));
  const followers = Map.groupBy(newestFirst, ({ signature }) => {
    const id = signature?.previous?.id;
    return id !== undefined && ids.has(id) ? id : null;
  });
  const ordered = new Set<ReconcileDocument>();
  const next = [...(followers.get(null) ?? [])];
  for (let one = next.pop(); one !== undefined; one = next.pop()) {
    ordered.add(one);
    for (const follower of followers.get(one.id) ?? []) if (!ordered.has(follower)) next.push(follower);
  }
  // Those in a circle are forged.
  return [...ordered, ...newestFirst.toReversed().filter((one) => !ordered.has(one))];
}

function signatureProblem(report: ReconcileDocument, key: KeyObject | null): string | null {
  const { signature } = report;
  if (signature === undefined) return "it is not signed";
  if (key !== null && publicText(key) !== signature.key) return "another key has signed it";
  try {
    const by = createPublicKey({ key: Buffer.from(signature.key, "base64"), format: "der", type: "spki" });
    const isRight = verify(null, contentOf(report, signature), by, Buffer.from(signature.value, "base64"));
    return isRight ? null : "it was changed after it was signed";
  } catch {
    return "its key can't be read";
  }
}

function linkProblem(
  { signature }: ReconcileDocument,
  before: ReconcileDocument,
  links: ReadonlyMap<string, ReportLink>,
): string | null {
  const previous = signature?.previous ?? null;
  if (previous === null) return "it follows no report: the state was new then";
  const known = links.get(previous.id);
  if (known === undefined) return `the report before it is missing: ${previous.id}`;
  if (known.sha256 !== previous.sha256) return `the report before it was replaced: ${previous.id}`;
  return previous.id === before.id ? null : `it follows ${previous.id}, not ${before.id}`;
}

function linkTo(found: ReconcileDocument, sha256 = digestOf(found)): ReportLink {
  return { id: found.id, sha256 };
}

/** As `openssl` shows it for a public key in DER. */
function fingerprintOf(key: string): string {
  return createHash("sha256").update(Buffer.from(key, "base64")).digest("hex");
}

function publicText(key: KeyObject): string {
  return key.export({ format: "der", type: "spki" }).toString("base64");
}

function contentOf(found: ReconcileDocument, { key, previous }: Omit<ReportSignature, "value">): Buffer {
  return Buffer.from(normalOf({ ...found, signature: { key, previous } }));
}

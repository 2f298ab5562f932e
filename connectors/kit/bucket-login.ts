/** The login for a bucket whose options have no keys, from where AWS' own programs look. */
export interface BucketLogin {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** From `MARGIN_MS` before then on it is looked for again. */
  readonly expiration?: Date;
}

/** AWS' client asks for another login so long before the last one ends. */
export const MARGIN_MS = 5 * 60_000;
/** A login without an end is looked for again after this time: files of keys change, and nobody tells. */
const AGAIN_MS = 30_000;

/** Variables, profile, role. Reads files again each time that it is called. */
export async function lookForLogin(): Promise<BucketLogin> {
  const { defaultProvider } = await import("@aws-sdk/credential-provider-node");
  const found = await defaultProvider({ ignoreCache: true })();
  return found.expiration === undefined ? { ...found, expiration: new Date(Date.now() + MARGIN_MS + AGAIN_MS) } : found;
}

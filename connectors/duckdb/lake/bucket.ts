/** How DuckDB reaches the bucket in which a lake's data files are. */
import type { EngineConnection } from "../engine/engine.ts";
import { NO_TLS_KEYS, tlsOptions, UnusableTls } from "../../../src/tls/options.ts";
import type { BucketSettings } from "../../kit/bucket.ts";
import { pages } from "../error-pages.ts";
import { duckdbError } from "../errors.ts";
import { quoteLiteral } from "../names.ts";

/** What DuckDB holds in memory of each file that it uploads is a ten-thousandth of this. */
const FILE_MAX = "50GB";

interface Login {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** Gives the engine the bucket's login, for this bucket only. The extension `httpfs` is loaded. */
export async function openBucket(connection: EngineConnection, settings: BucketSettings): Promise<void> {
  const { bucket, endpoint, pathStyle, ca } = settings;
  const { login, region } = await found(settings);
  const server = endpoint === undefined ? undefined : new URL(endpoint);
  const isEncrypted = server?.protocol !== "http:";
  if (ca !== undefined) refuseUnusable(ca, isEncrypted);
  const options: Readonly<Record<string, string | undefined>> = {
    SCOPE: `s3://${bucket}/`,
    KEY_ID: login.accessKeyId,
    SECRET: login.secretAccessKey,
    SESSION_TOKEN: login.sessionToken,
    REGION: region,
    ENDPOINT: server === undefined ? undefined : server.host + server.pathname.replace(/\/+$/, ""),
    URL_STYLE: pathStyle ? "path" : "vhost",
    USE_SSL: String(isEncrypted),
  };
  const list = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name} ${quoteLiteral(value)}`],
  );
  await connection.run(`SET GLOBAL s3_uploader_max_filesize = ${quoteLiteral(FILE_MAX)}`);
  // DuckDB's client trusts only what it can verify; the one that it had before trusts any server unless told not to.
  await connection.run("SET GLOBAL enable_server_cert_verification = true");
  if (ca !== undefined) await connection.run(`SET GLOBAL ca_cert_file = ${quoteLiteral(ca)}`);
  await connection.run(`CREATE OR REPLACE TEMPORARY SECRET millrace (TYPE s3, ${list.join(", ")})`);
}

/** DuckDB reads the file with its first request only, and says nothing of one that has no use. */
function refuseUnusable(ca: string, isEncrypted: boolean): void {
  try {
    tlsOptions({ ...NO_TLS_KEYS, ca }, isEncrypted);
  } catch (error) {
    if (!(error instanceof UnusableTls)) throw error;
    const { what, cause } = error;
    const message = `the bucket of the lake's data: ${what}`;
    throw duckdbError({ code: "MR3233", kind: "blocked", message, hint: pages.MR3233.remedy, cause });
  }
}

/** What the options do not say is looked for where AWS' own programs look. Temporary logins are asked for at each opening. */
async function found({
  accessKeyId,
  secretAccessKey,
  region,
}: BucketSettings): Promise<{ readonly login: Login; readonly region: string }> {
  const given = accessKeyId === undefined || secretAccessKey === undefined ? null : { accessKeyId, secretAccessKey };
  if (given !== null && region !== undefined) return { login: given, region };
  const { S3Client } = await import("@aws-sdk/client-s3");
  const client = new S3Client(region === undefined ? {} : { region });
  try {
    return { login: given ?? (await client.config.credentials()), region: await client.config.region() };
  } finally {
    client.destroy();
  }
}

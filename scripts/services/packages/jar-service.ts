/** What the services out of published jars share: the Java that runs them, and what has to be fetched for them. */
import { isCached } from "./cache.ts";
import { findJava, provideJava, type Java } from "./java.ts";
import { readJarList, totalBytes } from "./maven.ts";
import {
  fetched,
  ServiceUnavailableError,
  type Availability,
  type Download,
  type ProgressListener,
  type ServiceName,
} from "../service.ts";

export interface JarService {
  readonly name: ServiceName;
  readonly version: string;
  readonly javaMajor: number;
  /** The list of jars in jars/, and the name in the cache. */
  readonly jars: string;
}

export async function jarAvailability(
  { version, javaMajor, jars }: JarService,
  furtherMissing: readonly Download[] = [],
): Promise<Extract<Availability, { kind: "native" | "unavailable" }>> {
  const java = await findJava(javaMajor);
  if (java.kind === "missing") return { kind: "unavailable", reason: java.reason };
  const missing = java.kind === "packaged" ? [...java.missing] : [];
  if (!isCached(jars)) {
    const megabytes = Math.ceil(totalBytes(await readJarList(jars)) / 1_000_000);
    missing.push({ what: jars, from: "Maven Central", megabytes });
  }
  return { kind: "native", version, missing: [...missing, ...furtherMissing] };
}

export async function javaFor({ name, javaMajor }: JarService, onProgress: ProgressListener): Promise<Java> {
  const found = await findJava(javaMajor);
  if (found.kind === "missing") throw new ServiceUnavailableError(name, found.reason);
  return await fetched(name, provideJava(found, onProgress));
}

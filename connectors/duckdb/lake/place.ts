/** Where a lake's catalogue and data are. */
import { resolve } from "node:path";
import { placeOfUrl } from "../../../src/postgres/url.ts";
import { type Place, placeOfBucket, placeOfFile, placeOfFolder, realPath } from "../../../src/core/targets/places.ts";
import { FilePlace } from "../../kit/file-target.ts";
import { bucketOf, type BucketSettings, type S3Options } from "../../kit/bucket.ts";

export type CatalogKind = "sqlite" | "duckdb" | "postgres";

export interface LakePlace {
  readonly kind: CatalogKind;
  /** A file's absolute path, or the URL of a database. */
  readonly catalog: string;
  /** An absolute path, or `s3://bucket/prefix`; ends with a slash. */
  readonly data: string;
  /** Null: the data are in a folder. */
  readonly bucket: BucketSettings | null;
}

export const CATALOG = /^(?:(?:sqlite|duckdb):.|postgres(?:ql)?:\/\/.)/;

interface WrittenPlace {
  readonly catalog: string;
  readonly data: string;
  readonly s3?: S3Options | undefined;
}

/** `folder`: paths are relative to it. */
export function placeOf({ catalog, data, s3 }: WrittenPlace, folder: string): LakePlace {
  const kind = catalog.slice(0, catalog.indexOf(":"));
  const bucket = bucketOf(data, s3, folder);
  const isFile = kind === "sqlite" || kind === "duckdb";
  return {
    kind: isFile ? kind : "postgres",
    catalog: isFile ? realPath(resolve(folder, catalog.slice(kind.length + 1))) : catalog,
    data: bucket === undefined ? withSlash(resolve(folder, data)) : `s3://${bucket.bucket}/${bucket.prefix}`,
    bucket: bucket ?? null,
  };
}

/** The catalogue, and what it lists. */
export function placesOf({ kind, catalog, data, bucket }: LakePlace, folder: string): readonly Place[] {
  const server = kind === "postgres" ? placeOfUrl(catalog, folder) : null;
  const listed =
    bucket === null ? placeOfFolder("the lake's data in", data) : placeOfBucket("the lake's data in", bucket);
  if (kind !== "postgres") return [placeOfFile("the lake's catalogue", catalog), listed];
  return server === null ? [listed] : [`the lake's catalogue in ${server}`, listed];
}

/** Without login and parameters, for people. */
export function shownCatalog({ kind, catalog }: LakePlace): string {
  if (kind !== "postgres") return `${kind}:${catalog}`;
  const { hostname, port, pathname } = new URL(catalog);
  return `postgres://${hostname}${port === "" ? "" : `:${port}`}${pathname}`;
}

/** For people: of a bucket also its server, where it is not AWS. */
export function shownData({ data, bucket }: LakePlace): string {
  return bucket?.endpoint === undefined ? data : `${data} at ${new URL(bucket.endpoint).host}`;
}

/** Null: the catalogue is a database. */
export function catalogFile({ kind, catalog }: LakePlace): FilePlace | null {
  return kind === "postgres" ? null : new FilePlace(catalog);
}

function withSlash(path: string): string {
  return path.endsWith("/") ? path : `${path}/`;
}

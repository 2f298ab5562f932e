import type { Store } from "./store/store.ts";

/** When changes that wait in the log become files: as soon as one of these is reached. */
export interface RollLimits {
  readonly rows: number;
  readonly bytes: number;
  readonly ageMs: number;
}

/** Of a bucket, as S3's clients name them; what is not given comes from the environment, as with the AWS command line. */
export interface S3Settings {
  readonly bucket: string;
  /** Empty, or it ends with a slash. */
  readonly prefix: string;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly pathStyle: boolean;
}

export interface FilesSettings {
  readonly name: string;
  readonly format: "parquet" | "ndjson";
  readonly roll: RollLimits;
  readonly memoryLimit: string;
  readonly store: () => Promise<Store>;
}

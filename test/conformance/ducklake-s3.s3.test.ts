/**
 * @module-tag long
 *
 * The promises of a lake whose data files are in a bucket.
 */
import { freshBucket } from "../support/run/services.ts";
import { lakeConformance } from "./lake.ts";

lakeConformance("sqlite", [], freshBucket);

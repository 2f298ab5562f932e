/** Geometries arrive as EWKB; Debezium has well-known binary, and the number of the reference system beside it. */
import type { ByteWriter } from "../../../../../src/core/bytes.ts";
import { writePointOf } from "./postgres-texts.ts";

const HAS_SRID = 0x2000_0000;
const HEADER_BYTES = 5;
const SRID_BYTES = 4;

export function writeGeometry(out: ByteWriter, ewkb: Buffer): void {
  const { wkb, srid } = split(ewkb);
  out.ascii(`{"wkb":"${wkb.toString("base64")}","srid":${srid}}`);
}

export function writeGeometryPoint(out: ByteWriter, ewkb: Buffer): void {
  const { wkb, srid } = split(ewkb);
  writePointOf(out, wkb.readDoubleLE(HEADER_BYTES), wkb.readDoubleLE(HEADER_BYTES + 8), wkb.toString("base64"), srid);
}

function split(ewkb: Buffer): { readonly wkb: Buffer; readonly srid: number | null } {
  const type = ewkb.readUInt32LE(1);
  if ((type & HAS_SRID) === 0) return { wkb: ewkb, srid: null };
  const header = Buffer.from(ewkb.subarray(0, HEADER_BYTES));
  header.writeUInt32LE((type & ~HAS_SRID) >>> 0, 1);
  const wkb = Buffer.concat([header, ewkb.subarray(HEADER_BYTES + SRID_BYTES)]);
  return { wkb, srid: ewkb.readUInt32LE(HEADER_BYTES) };
}

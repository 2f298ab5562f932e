/** What commands without a source load of it, to write positions as people read them. */
import { distanceInBytes, type Positions } from "../../../src/core/contracts/positions.ts";
import { recordPosition } from "./stream/frame.ts";
import { formatLsn, parseLsn } from "./wire/lsn.ts";

export const POSITIONS: Positions = { format: formatLsn, parse: parseLsn, distance: distanceInBytes, recordPosition };

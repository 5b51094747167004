export { TestClock } from './clock.ts'
export { storeConformance, type ConformanceOptions } from './conformance.ts'
export type { Clock, Timer } from '../../types/clock.ts'

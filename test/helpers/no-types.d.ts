// What has no types: nothing.
declare const nothing: undefined
export = nothing

"""The documents of Dagster's GraphQL API that the tests send."""

LAUNCH_RUN = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
RUN = """
query ($id: ID!, $cursor: String) {
  runOrError(runId: $id) { ... on Run { status } }
  logsForRun(runId: $id, afterCursor: $cursor) {
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on MessageEvent { message stepKey timestamp }
        ... on ExecutionStepFailureEvent {
          error { message }
          failureMetadata { metadataEntries { label ... on TextMetadataEntry { text } } }
        }
        ... on ExecutionStepUpForRetryEvent { error { message } }
        ... on RunFailureEvent { error { message } }
      }
    }
  }
}
"""
UNFINISHED_RUNS = """
{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) { ... on Runs { results { runId } } } }
"""
TERMINATE_RUN = """
mutation ($id: String!, $policy: TerminateRunPolicy) {
  terminateRun(runId: $id, terminatePolicy: $policy) { __typename }
}
"""
TERMINATE_RUNS = """
mutation ($ids: [String!]!) { terminateRuns(runIds: $ids, terminatePolicy: SAFE_TERMINATE) { __typename } }
"""
POOL = """
query ($pool: String!) { instance { concurrencyLimit(concurrencyKey: $pool) { claimedSlots { runId stepKey } } } }
"""
SET_POOL_LIMIT = """
mutation ($pool: String!, $limit: Int!) { setConcurrencyLimit(concurrencyKey: $pool, limit: $limit) }
"""
WIPE_ASSETS = """
mutation ($ranges: [PartitionsByAssetSelector!]!) { wipeAssets(assetPartitionRanges: $ranges) { __typename } }
"""
START_SENSOR = """
mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename ... on Sensor { id } } }
"""
STOP_SENSOR = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
LAUNCH_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
CANCEL_BACKFILL = "mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"

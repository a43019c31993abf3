// What Kubeflow's UI asks of a run, call by call, over gRPC-Web. Each line that goes out is an RPC,
// its request and the response as it was read, both serialized again.
'use strict';

const { client, methods, say } = require('./stubs.js');

const [kind, address, folder, run] = process.argv.slice(2);

async function main() {
  const store = client(kind, address, folder);
  const known = methods(folder);

  async function ask(rpc, request) {
    const response = await store[rpc](request);
    say([
      rpc,
      known[rpc].requestSerialize(request).toString('base64'),
      known[rpc].responseSerialize(response).toString('base64'),
    ].join(' '));
    return response;
  }

  // The page of a run.
  let context;
  for (const type_name of ['system.PipelineRun', 'KfpRun', 'pipeline_run']) {
    context = context || (await ask('GetContextByTypeAndName', { type_name, context_name: run })).context;
  }
  const { executions } = await ask('GetExecutionsByContext', { context_id: context.id });
  await ask('GetArtifactsByContext', { context_id: context.id });
  const execution_ids = executions.map((each) => each.id);
  const { events } = await ask('GetEventsByExecutionIDs', { execution_ids });
  const artifact_ids = [...new Set(events.map((each) => each.artifact_id))];
  const { artifacts } = await ask('GetArtifactsByID', { artifact_ids });
  await ask('GetArtifactTypes', {});
  await ask('GetExecutionTypes', {});

  // The lists of artifacts and executions, by pages.
  for (const rpc of ['GetArtifacts', 'GetExecutions']) {
    const options = { max_result_size: 2, order_by_field: { field: 'CREATE_TIME', is_asc: false } };
    let page = await ask(rpc, { options });
    while (page.next_page_token) {
      page = await ask(rpc, { options: { ...options, next_page_token: page.next_page_token } });
    }
  }

  // The pages of one of them, and lineage by repeated calls.
  await ask('GetArtifactTypesByID', { type_ids: [artifacts[0].type_id] });
  await ask('GetContextsByExecution', { execution_id: execution_ids[0] });
  let seen = new Set();
  let wave = [artifact_ids[0]];
  while (wave.length) {
    wave.forEach((each) => seen.add(each));
    const around = await ask('GetEventsByArtifactIDs', { artifact_ids: wave });
    const ids = [...new Set(around.events.map((each) => each.execution_id))];
    await ask('GetExecutionsByID', { execution_ids: ids });
    const beyond = await ask('GetEventsByExecutionIDs', { execution_ids: ids });
    wave = [...new Set(beyond.events.map((each) => each.artifact_id))].filter((id) => !seen.has(id));
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});

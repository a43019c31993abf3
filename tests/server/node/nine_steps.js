// The nine steps of MLMD's guide, and three mistakes; what is answered goes out as one JSON object.
'use strict';

const { client, say } = require('./stubs.js');

const [kind, address, folder, experimentName] = process.argv.slice(2);

async function main() {
  const store = client(kind, address, folder);
  const told = {};

  // 1. Register artifact types.
  const { type_id: dataType } = await store.PutArtifactType({
    artifact_type: { name: 'DataSet', properties: { day: 'INT', split: 'STRING' } },
  });
  const { type_id: modelType } = await store.PutArtifactType({
    artifact_type: { name: 'SavedModel', properties: { version: 'INT', name: 'STRING' } },
  });
  told.types = (await store.GetArtifactTypes({})).artifact_types.map((each) => each.name);

  // 2. Register an execution type.
  const { type_id: trainerType } = await store.PutExecutionType({
    execution_type: { name: 'Trainer', properties: { state: 'STRING' } },
  });

  // 3. Record a dataset.
  const { artifact_ids: [data] } = await store.PutArtifacts({
    artifacts: [{
      type_id: dataType,
      uri: 'path/to/data',
      properties: { day: { int_value: 1 }, split: { string_value: 'train' } },
      custom_properties: { rows: { double_value: 18250.5 }, 'größe 🦆': { bool_value: true } },
    }],
  });
  told.data = (await store.GetArtifactsByID({ artifact_ids: [data] })).artifacts[0];

  // 4. Record a run of the trainer.
  const { execution_ids: [run] } = await store.PutExecutions({
    executions: [{
      type_id: trainerType,
      properties: { state: { string_value: 'RUNNING' } },
    }],
  });

  // 5. It reads the dataset.
  await store.PutEvents({
    events: [{ artifact_id: data, execution_id: run, type: 'DECLARED_INPUT' }],
  });

  // 6. Record the model, 7. which the run has written.
  const { artifact_ids: [model] } = await store.PutArtifacts({
    artifacts: [{
      type_id: modelType,
      uri: 'path/to/model/file',
      properties: { version: { int_value: 1 }, name: { string_value: 'MNIST-v1' } },
    }],
  });
  await store.PutEvents({
    events: [{ artifact_id: model, execution_id: run, type: 'DECLARED_OUTPUT' }],
  });

  // 8. The run is done.
  await store.PutExecutions({
    executions: [{
      id: run,
      type_id: trainerType,
      last_known_state: 'COMPLETE',
      properties: { state: { string_value: 'COMPLETED' } },
    }],
  });

  // 9. Group all this in an experiment.
  const { type_id: experimentType } = await store.PutContextType({
    context_type: { name: 'Experiment', properties: { note: 'STRING' } },
  });
  const { context_ids: [experiment] } = await store.PutContexts({
    contexts: [{
      type_id: experimentType,
      name: experimentName,
      properties: { note: { string_value: 'My first experiment.' } },
    }],
  });
  await store.PutAttributionsAndAssociations({
    attributions: [{ artifact_id: model, context_id: experiment }],
    associations: [{ execution_id: run, context_id: experiment }],
  });
  const { artifacts } = await store.GetArtifactsByContext({ context_id: experiment });
  told.of_the_experiment = artifacts.map((each) => each.uri);
  const { executions } = await store.GetExecutionsByContext({ context_id: experiment });
  told.states = executions.map((each) => each.last_known_state);
  const { events } = await store.GetEventsByExecutionIDs({ execution_ids: [run] });
  told.events = events.map((each) => [each.artifact_id === data ? 'data' : 'model', each.type]);

  told.mistakes = [];
  for (const mistake of [
    () => store.GetArtifactType({ type_name: 'Häuser 100%\n' }),
    () => store.PutContexts({ contexts: [{ type_id: experimentType, name: experimentName }] }),
    () => store.GetArtifacts({ options: { filter_query: 'no filter' } }),
  ]) {
    try {
      await mistake();
      told.mistakes.push(null);
    } catch (error) {
      told.mistakes.push([error.code, error.details]);
    }
  }
  say(JSON.stringify(told));
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});

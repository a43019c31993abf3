export { coordGreedy, decrossTwoLayer, graph, layeringLongestPath, layeringSimplex, sugiyama, twolayerAgg, twolayerGreedy } from "d3-dag";

/* Classifies what comes on standard input, with a network that `espalier compile RUN_FOLDER` wrote.

   FOLDER, an absolute path, holds espalier.h, espalier.so and espalier.weights; INPUTS and OUTPUTS are the sizes that
   espalier.h states:

   cc -O2 -I FOLDER -DINPUTS=256 -DOUTPUTS=10 main.c FOLDER/espalier.so -Wl,-rpath,FOLDER -o classify
   ./classify FOLDER/espalier.weights < images.f32

   images.f32: the inputs one after the other, each INPUTS 32-bit floats, normalised as in training. Instead of linking the
   library one can compile espalier.c into the program; give the compiler the flags that docs/compile.md lists then. */

#include "espalier.h"

#include <stdio.h>

int main(int n_words, char **words) {
  static float input[INPUTS], output[OUTPUTS];
  espalier_network *network;

  if (n_words != 2) {
    fprintf(stderr, "usage: %s WEIGHTS < INPUTS\n", words[0]);
    return 2;
  }
  const int error = espalier_load(words[1], 1, &network);
  if (error) {
    fprintf(stderr, "%s cannot be loaded: error %d, see espalier.h\n", words[1], error);
    return 1;
  }
  while (fread(input, sizeof *input, INPUTS, stdin) == INPUTS) {
    int best = 0;
    if (espalier_run(network, input, output, 1)) return 1;
    for (int i = 1; i < OUTPUTS; i++)
      if (output[i] > output[best]) best = i;
    printf("class %d, score %.4f\n", best, output[best]);
  }
  espalier_free(network);
  return 0;
}

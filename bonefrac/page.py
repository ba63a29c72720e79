"What `streamlit run` runs: bonefrac.app, as a part of the package"
from bonefrac.app import main

main()
